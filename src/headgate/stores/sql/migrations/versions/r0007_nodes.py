"""Several data folders on one database."""

from pathlib import Path

from alembic import op

from headgate.stores.sql.engine import raw

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    raw(op.get_bind()).define(Path(__file__).with_name("0007.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    raise NotImplementedError("The books are never taken back: restore a backup instead.")
