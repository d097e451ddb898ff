"""Options and parameter types that several commands have."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from headgate.program import invocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from headgate.values import NanoUSD, WallMicros

C = TypeVar("C", bound=click.Command)
NOTHING: Final = "Say what to change: see --help."
SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

_DATABASE: Final = "headgate.database"  # where a context keeps what `--database` says


def data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which books it is about: `data`, and `chosen_database`."""
    chosen: Callable[..., Any] = folder_option(_database(command))
    return chosen


def _choose_database(context: click.Context, _: click.Parameter, value: str | None) -> None:
    context.meta[_DATABASE] = value and read_address(value)


def read_address(text: str) -> str:
    """Return the address of a database as it was given; `-`: in a line of the input, since arguments show."""
    return sys.stdin.readline().strip() if text == "-" else text


def chosen_database() -> str | None:
    """Return what `--database` says to the command that runs."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(_DATABASE)


_database: Callable[[Any], Any] = click.option(
    "--database",
    metavar="URL",
    expose_value=False,
    callback=_choose_database,
    help="PostgreSQL database of the books; -: read from input. "
    "[default: $HEADGATE_DATABASE, or what the data folder notes]",
)
folder_option: Callable[[Any], Any] = click.option(
    "--data", metavar="DIR", help="Data folder. [default: $HEADGATE_DATA or ./headgate-data]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
last_option = click.option(
    "--last", type=click.IntRange(1), default=50, show_default=True, help="So many, the newest first."
)
config_option = click.option("--config", "config_file", metavar="FILE", help="Configuration (TOML).")
env_option = click.option(
    "--env-file", metavar="FILE", default=".env", show_default=True, help="File of environment variables."
)
prices_option = click.option(
    "--prices", metavar="BOOK", help="Price book: default, guide-2025, or a TOML file of your own."
)


class Duration(click.ParamType[int]):
    """A length of time such as 90d, 12h or 30m, as seconds."""

    name = "duration"

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero  # whether none at all is one

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d{1,6})([smhdw])", str(value))
        if match is None or not (int(match[1]) or self._zero):
            self.fail(f"{value!r} is not a length of time such as 90d, 12h or 30m.", param, ctx)
        return int(match[1]) * SECONDS[match[2]]


class Tokens(click.ParamType[int]):
    """A count such as 1500, 300k or 1m."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d{1,12})([km]?)", str(value).lower().replace(",", "").replace("_", ""))
        if match is None:
            self.fail(f"{value!r} is not a count such as 1500, 300k or 1m.", param, ctx)
        return int(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2]]


class Money(click.ParamType[int]):
    """An amount of USD such as 20 or 0.85, as nano-USD."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NanoUSD:
        """Read it."""
        from headgate.money.amounts import parse_usd

        if isinstance(value, int):
            return value
        try:
            return parse_usd(str(value))
        except ValueError as fault:
            self.fail(f"{fault}.", param, ctx)


class Pair(click.ParamType[tuple[str, str]]):
    """A pair such as team=search; nothing behind the sign takes it away."""

    name = "pair"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Read it."""
        if isinstance(value, tuple):
            return value
        name, sign, text = str(value).partition("=")
        if not name or not sign:
            self.fail(f"{value!r} is not a pair such as team=search.", param, ctx)
        return name, text


class Cap(click.ParamType[tuple[int, str]]):
    """A cap such as 20/month, 5/day or 100/total: nano-USD and a period."""

    name = "cap"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[NanoUSD, str]:
        """Read it."""
        from headgate.money.amounts import parse_cap

        if isinstance(value, tuple):
            return value
        try:
            return parse_cap(str(value))
        except ValueError as fault:
            self.fail(f"{fault}.", param, ctx)


class Factor(click.ParamType[int]):
    """A factor such as 1.15 or 0.8, as millionths."""

    name = "factor"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d{1,4})(?:\.(\d{1,6}))?", str(value))
        if match is None:
            self.fail(f"{value!r} is not a factor such as 1.15 or 0.8, of at most 6 decimals.", param, ctx)
        return int(match[1]) * 1_000_000 + int((match[2] or "").ljust(6, "0"))


class End(NamedTuple):
    """When something ends: so many seconds from now, or at an instant; neither: never."""

    in_s: int = 0
    at: WallMicros = 0

    def instant(self, now: WallMicros) -> WallMicros:
        """Return the instant; 0: never."""
        return now + self.in_s * 1_000_000 if self.in_s else self.at


class When(click.ParamType[End]):
    """An end: how long from now such as 90d, a date in UTC, or never."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> End:
        """Read it."""
        from datetime import UTC, datetime

        if isinstance(value, End):
            return value
        text = str(value)
        if text == "never":
            return End()
        if re.fullmatch(r"\d{1,6}[smhdw]", text):
            return End(Duration().convert(text, param, ctx))
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            self.fail(
                f"{text!r} is no end: write 90d, 2027-01-31, 2027-01-31T12:00 (UTC) or never.", param, ctx
            )
        return End(at=int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()) * 1_000_000)


account_option = click.option(
    "--account", metavar="ID|NAME", default="", help="Of this account. [default: the first]"
)
meta_option = click.option(
    "--meta",
    metavar="NAME=TEXT",
    multiple=True,
    type=Pair(),
    help="Note of yours. May be repeated; NAME= takes one away.",
)
play_option = click.option("--play", is_flag=True, help="In play money: that of the simulator.")


def changes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a change that were given.

    Raises:
        click.UsageError: none was.
    """
    found = {name: value for name, value in given.items() if value is not None and value != ()}
    if not found:
        raise click.UsageError(NOTHING)
    return found


def noted(pairs: Iterable[tuple[str, str]], before: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return metadata with some pairs changed; those without a text are taken away."""
    return {name: text for name, text in {**(before or {}), **dict(pairs)}.items() if text}


def examples(*lines: str) -> Callable[[C], C]:
    """Give a command examples at the end of its help; `{me}` stands for this program."""
    me = invocation()
    shown = [line.replace("{me}", me) if "{me}" in line else f"{me} {line}" for line in lines]

    def add(command: C) -> C:
        command.epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in shown)
        return command

    return add
