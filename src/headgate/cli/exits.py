"""How a command ends: its exit code, and a message that says what to do."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

OK: Final = 0
FOUND: Final = 1  # findings, or the thing asked for failed
USAGE: Final = 2  # the command line or the configuration cannot be used
UNREACHABLE: Final = 3  # a server or a data folder cannot be reached

CODES: Final = """\b
Exit codes: 0 done; 1 findings, or it failed; 2 wrong usage or configuration;
3 a server or a data folder cannot be reached or used."""


class Failed(click.ClickException):
    """What was asked for failed."""

    exit_code = FOUND


class Unusable(click.ClickException):
    """The command line or the configuration cannot be used."""

    exit_code = USAGE


class Unreachable(click.ClickException):
    """A server or a data folder cannot be reached or used."""

    exit_code = UNREACHABLE


@contextmanager
def speaking() -> Iterator[None]:
    """Turn the errors that people can do something about into messages with their exit code."""
    import sqlite3

    from headgate.config import ConfigError
    from headgate.errors import GatewayError
    from headgate.stores.sql.pepper import DataFolderError

    try:
        yield
    except GatewayError as fault:
        raise Failed(fault.message) from fault
    except ConfigError as fault:
        raise Unusable(str(fault)) from fault
    except DataFolderError as fault:
        raise Unreachable(str(fault)) from fault
    except sqlite3.Error as fault:
        raise Unreachable(f"The database cannot be used: {fault}.") from fault
