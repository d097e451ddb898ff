"""Bring the schema of a data folder up to date with Alembic. Never imported by a server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from headgate.stores.sql.bootstrap import put_serves
from headgate.stores.sql.connection import LockedError
from headgate.stores.sql.engine import open_engine, raw

_LOCKED_S: Final = 60.0  # how long a step is tried that finds a table locked
_AGAIN_S: Final = 1.0

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from headgate.stores.sql.connection import Connection as Direct
    from headgate.stores.sql.database import Place


def migrate(place: Place) -> tuple[str, str]:
    """Run every step that is missing; return the revisions before and after.

    Each step is one transaction under the lock of those who write, and begins with a look at which is due: of
    many that migrate at once one does a step while the others wait, and what was killed goes on where it was.
    A step that has much to move does so ahead, in many transactions, between which servers book. One that
    finds a table locked begins anew a moment later, for a minute at most.

    Raises:
        LockedError: a table was read or written all the time.
        CommandError: the schema is of no revision that this version knows.
    """
    config, engine = _config(), open_engine(place, "patient")
    script, passed = ScriptDirectory.from_config(config), []
    try:
        while True:
            found, more = _patiently(config, script, engine)
            passed.append(found)
            if not more:
                return passed[0], found
    finally:
        engine.dispose()


def _patiently(config: Config, script: ScriptDirectory, engine: Engine) -> tuple[str, bool]:
    """Do the step that is due, if one is, as soon as nobody has locked what it needs."""
    until = time.monotonic() + _LOCKED_S
    while True:
        try:
            with engine.begin() as connection:
                return _step(config, script, connection)
        except LockedError:
            if time.monotonic() >= until:
                raise
        time.sleep(_AGAIN_S)


def _step(config: Config, script: ScriptDirectory, connection: Connection) -> tuple[str, bool]:
    """Do the step that is due, if one is; return the revision before it, and whether there was one."""
    found = MigrationContext.configure(connection).get_current_revision() or ""
    step = _after(script, found)
    if step is None:
        put_serves(raw(connection))
    elif not _ahead(script, step, raw(connection)):
        config.attributes["connection"] = connection
        command.upgrade(config, step)
    return found, step is not None


def _ahead(script: ScriptDirectory, step: str, sql: Direct) -> bool:
    """Do a part of what a step has to do ahead; say whether there was anything."""
    done = getattr(script.get_revision(step).module, "ahead", None)
    return done is not None and bool(done(sql))


def _after(script: ScriptDirectory, revision: str) -> str | None:
    """Return the step that comes after a revision; None after the last one."""
    steps = [each.revision for each in script.walk_revisions("base", "heads")][::-1]
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
