"""Recorded answers of servers that share a database."""

from pathlib import Path

from alembic import op

from headgate.stores.sql.engine import raw

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    raw(op.get_bind()).define(Path(__file__).with_name("0012.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    raise NotImplementedError("The books are never taken back: restore a backup instead.")
