"""Bring the schema of a data folder up to date with Alembic. Never imported by a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from headgate.stores.sql.bootstrap import put_serves
from headgate.stores.sql.engine import open_engine, raw

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from headgate.stores.sql.database import Place


def migrate(place: Place) -> tuple[str, str]:
    """Run every step that is missing; return the revisions before and after.

    Each step is one transaction under the lock of those who write, and begins with a look at which is due: of
    many that migrate at once one does a step while the others wait, and what was killed goes on where it was.

    Raises:
        CommandError: the schema is of no revision that this version knows.
    """
    config, engine = _config(), open_engine(place, "patient")
    passed = []
    try:
        while True:
            with engine.begin() as connection:
                found, more = _step(config, connection)
            passed.append(found)
            if not more:
                return passed[0], found
    finally:
        engine.dispose()


def _step(config: Config, connection: Connection) -> tuple[str, bool]:
    """Do the step that is due, if one is; return the revision before it, and whether there was one."""
    found = MigrationContext.configure(connection).get_current_revision() or ""
    step = _after(config, found)
    if step is None:
        put_serves(raw(connection))
    else:
        config.attributes["connection"] = connection
        command.upgrade(config, step)
    return found, step is not None


def _after(config: Config, revision: str) -> str | None:
    """Return the step that comes after a revision; None after the last one."""
    steps = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions("base", "heads")][
        ::-1
    ]
    if revision and revision not in steps:
        raise CommandError(f"no revision {revision!r} is known to this version")
    return next((step for step in steps if step > revision), None)


def head() -> str:
    """Return the newest revision that this version knows."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config
