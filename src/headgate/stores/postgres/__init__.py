"""The books in PostgreSQL, through asyncpg: an extra, imported where an address names a server."""
