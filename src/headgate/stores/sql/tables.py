"""The tables of the admin store for SQLAlchemy; schema.sql is what makes them."""

from __future__ import annotations

from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, Text

_METADATA = MetaData()

accounts = Table(
    "accounts",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("public_id", Text),
    Column("name", Text),
    Column("created_at", Integer),
)
projects = Table(
    "projects",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("public_id", Text),
    Column("account", Integer),
    Column("name", Text),
    Column("created_at", Integer),
)
keys = Table(
    "keys",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("public_id", Text),
    Column("digest", LargeBinary),
    Column("project", Integer),
    Column("kind", Text),
    Column("name", Text),
    Column("shown", Text),
    Column("rpm", Integer),
    Column("tpm", Integer),
    Column("concurrency", Integer),
    Column("created_at", Integer),
    Column("expires_at", Integer),
    Column("revoked_at", Integer),
)
budgets = Table(
    "budgets",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("public_id", Text),
    Column("scope", Text),
    Column("ref", Integer),
    Column("book", Integer),
    Column("amount", Integer),
    Column("unit", Text),
    Column("tz", Text),
    Column("origin", Text),
    Column("created_at", Integer),
)
changes = Table(
    "changes",
    _METADATA,
    Column("seq", Integer, primary_key=True),
    Column("kind", Text),
    Column("ref", Text),
    Column("at", Integer),
)
SCOPES = {"account": accounts, "project": projects, "key": keys}
