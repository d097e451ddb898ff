"""Run by Alembic, on the connection that `migrate.py` hands over."""

from alembic import context

connection = context.config.attributes["connection"]
# SQLite can change a table only by copying it (batch), and takes schema changes in transactions.
context.configure(connection=connection, render_as_batch=True, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
