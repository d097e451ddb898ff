"""What is left of calls that were dropped, and how far."""

from pathlib import Path

from alembic import op

from headgate.stores.sql.engine import raw

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    raw(op.get_bind()).define(Path(__file__).with_name("0013.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    raise NotImplementedError("The books are never taken back: restore a backup instead.")
