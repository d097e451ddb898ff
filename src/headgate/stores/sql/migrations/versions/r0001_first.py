"""The first schema: every table of the books and of the admin store.

0001.sql is what schema.sql was then; it never changes.
"""

from pathlib import Path

from alembic import op

from headgate.stores.sql.engine import raw

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    raw(op.get_bind()).define(Path(__file__).with_name("0001.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    raise NotImplementedError("The books are never taken back: restore a backup instead.")
