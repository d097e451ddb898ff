"""Bring the schema of a data folder up to date with Alembic. Never imported by a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from headgate.stores.sql.engine import open_engine

if TYPE_CHECKING:
    from headgate.stores.sql.database import Place


def migrate(place: Place) -> tuple[str, str]:
    """Run every step that is missing, in one transaction; return the revisions before and after."""
    config = _config()
    engine = open_engine(place, "patient")
    try:
        with engine.begin() as connection:
            before = MigrationContext.configure(connection).get_current_revision() or ""
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        with engine.connect() as connection:
            after = MigrationContext.configure(connection).get_current_revision() or ""
    finally:
        engine.dispose()
    return before, after


def head() -> str:
    """Return the newest revision that this version knows."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config
