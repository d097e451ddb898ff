"""Options and parameter types that several commands have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

from headgate.program import invocation

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.values import NanoUSD

SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

data_option = click.option(
    "--data", metavar="DIR", help="Data folder. [default: $HEADGATE_DATA or ./headgate-data]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d{1,6})([smhdw])", str(value))
        if match is None or not int(match[1]):
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


def examples(*lines: str) -> Callable[[click.Command], click.Command]:
    """Give a command examples at the end of its help; `{me}` stands for this program."""
    me = invocation()
    shown = [line.replace("{me}", me) if "{me}" in line else f"{me} {line}" for line in lines]

    def add(command: click.Command) -> click.Command:
        command.epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in shown)
        return command

    return add
