"""Sums of what projects and accounts keep."""

from pathlib import Path

from alembic import op

from headgate.stores.sql.engine import raw

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    raw(op.get_bind()).define(Path(__file__).with_name("0015.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    raise NotImplementedError("The books are never taken back: restore a backup instead.")
