"""Which models `headgate models` shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import click

from headgate.cli.exits import Failed
from headgate.cli.options import Money, Tokens
from headgate.money.cards import ABILITIES, MODALITIES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from headgate.cli.pricing import Priced
    from headgate.values import NanoUSD, WallMicros

Option: TypeAlias = "Callable[[Callable[..., Any]], Callable[..., Any]]"

_PER_MILLION: Final = 1_000
_GIVES: Final = "out:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a model must be. Empty, 0 or None: no matter."""

    capabilities: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    min_context: int = 0
    min_output: int = 0
    max_price: NanoUSD | None = None  # of a million input tokens
    max_output_price: NanoUSD | None = None  # of a million output tokens
    deprecated: bool | None = None

    def take(self, priced: Priced, now: WallMicros) -> bool:
        """Say whether a model is all of that; what is not known of it is not so."""
        card, row = priced.card, priced.row
        if priced.window < self.min_context or priced.output < self.min_output:
            return False
        dear = (self.max_price, self.max_output_price)
        if dear != (None, None):
            if row is None or not (row.prices.input or row.prices.output):
                return False
            costs = (row.prices.input, row.prices.output)
            if any(
                most is not None and cost > most // _PER_MILLION
                for most, cost in zip(dear, costs, strict=True)
            ):
                return False
        if self.deprecated is not None and self.deprecated is not (card is not None and card.doomed(now)):
            return False
        able = set(card.can.split()) if card is not None else set()
        return able.issuperset(self.capabilities) and all(self._has(priced, name) for name in self.modalities)

    @staticmethod
    def _has(priced: Priced, modality: str) -> bool:
        if priced.card is None:
            return False
        if modality.startswith(_GIVES):
            return modality.removeprefix(_GIVES) in priced.card.gives.split()
        return modality in priced.card.takes.split()


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of the filters to a command."""
    kinds = [*MODALITIES[:5], *(f"{_GIVES}{name}" for name in MODALITIES)]
    options = (
        _many("--capability", "capabilities", ABILITIES, "That can do this"),
        _many("--modality", "modalities", kinds, "That takes this kind of input, or gives it"),
        _of("--min-context", Tokens(), "TOKENS", "Of at least this window."),
        _of("--min-output", Tokens(), "TOKENS", "That make at least so many tokens."),
        _of("--max-price", Money(), "USD", "At most this for a million input tokens."),
        _of("--max-output-price", Money(), "USD", "At most this for a million output tokens."),
        click.option(
            "--deprecated/--current",
            default=None,
            help="Whose end is announced or has come; or all but these.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _many(flag: str, name: str, choices: Sequence[str], says: str) -> Option:
    help_text = f"{says}: {', '.join(choices)}. May be repeated."
    return click.option(flag, name, multiple=True, type=click.Choice(choices), metavar="NAME", help=help_text)


def _of(flag: str, kind: click.ParamType[int], metavar: str, says: str) -> Option:
    default = 0 if metavar == "TOKENS" else None
    return click.option(flag, type=kind, metavar=metavar, default=default, help=says)


def nothing_found(advice: str, providers: tuple[str, ...]) -> Failed:
    """Return what is said where no model matches."""
    return Failed(
        f"No model matches. `{advice}` searches every provider: {', '.join(providers[:12])}, ... "
        "What is not known of a model counts as not so."
    )
