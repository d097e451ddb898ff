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
3 a server or a data folder cannot be reached or used.
With --json an error is JSON too, on standard error:
{"error": {"code": "unreachable", "message": "...", "exit_code": 3}}"""


class Failed(click.ClickException):
    """What was asked for failed.

    Args:
        message: for people.
        code: for scripts: the gateway's own where it refused, else `failed`.
    """

    exit_code = FOUND

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or "failed"


class Unusable(click.ClickException):
    """The command line or the configuration cannot be used."""

    exit_code = USAGE
    code = "unusable"


class Unreachable(click.ClickException):
    """A server or a data folder cannot be reached or used."""

    exit_code = UNREACHABLE
    code = "unreachable"


@contextmanager
def telling(as_json: bool) -> Iterator[None]:
    """Tell errors as one line of JSON, if asked to; standard output is a result's and stays empty."""
    try:
        yield
    except click.ClickException as fault:
        if not as_json:
            raise
        import msgspec

        code = getattr(fault, "code", "usage")  # click's own are all about the command line
        error = {"code": code, "message": fault.format_message(), "exit_code": fault.exit_code}
        click.echo(msgspec.json.encode({"error": error}).decode(), err=True)
        raise click.exceptions.Exit(fault.exit_code) from fault


@contextmanager
def speaking() -> Iterator[None]:
    """Turn the errors that people can do something about into messages with their exit code."""
    import sqlite3

    from headgate.errors import GatewayError
    from headgate.settings.upstreams import ConfigError
    from headgate.stores.sql.pepper import DataFolderError

    try:
        yield
    except click.NoSuchOption as fault:
        if fault.option_name != "--config" or not _reads_books(fault.ctx):
            raise
        advice = "It reads a data folder: name that by --data (in a configuration it is storage.data)."
        said = f"{fault.message} {advice}"
        raise click.NoSuchOption(fault.option_name, said, fault.possibilities, fault.ctx) from fault
    except GatewayError as fault:
        raise Failed(fault.message, fault.code) from fault
    except ConfigError as fault:
        raise Unusable(str(fault)) from fault
    except DataFolderError as fault:
        raise Unreachable(str(fault)) from fault
    except sqlite3.Error as fault:
        raise Unreachable(f"The database cannot be used: {fault}.") from fault


def _reads_books(context: click.Context | None) -> bool:
    """Say whether a command is given a data folder."""
    return context is not None and any("--data" in each.opts for each in context.command.params)
