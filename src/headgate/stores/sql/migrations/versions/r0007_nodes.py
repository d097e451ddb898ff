"""Several data folders on one database."""

from pathlib import Path

from alembic import op

from headgate.stores.sql.bootstrap import statements

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in statements(Path(__file__).with_name("0007.sql").read_text(encoding="utf-8")):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("The books are never taken back: restore a backup instead.")
