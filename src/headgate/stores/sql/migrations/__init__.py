"""How the schema of existing data folders is brought up to date (Alembic)."""
