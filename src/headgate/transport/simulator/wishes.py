"""What a request may ask of the simulator besides its body: faults, delays, lengths.

By a model name, `sim-500`, or by a header, `x-headgate-sim: fault=500; delay_ms=200`. The header wins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate.transport.simulator.faults import FAULTS, Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.ports import Request

HEADER = "x-headgate-sim"
PREFIX = "sim-"
DIRECTIVES: Mapping[str, str] = {
    "fault": "one of the faults below, with an amount after a hyphen where it takes one (`slow-500`)",
    "delay_ms": "milliseconds before the head of the answer",
    "chunk_ms": "milliseconds before each token of a stream",
    "tokens": "answer with exactly so many tokens of prose (at most 128,000)",
    "reasoning": "report so many reasoning tokens on top of the answer's",
    "cached": "report so many of the prompt's tokens as cached",
}
_MOST = {
    "delay_ms": 3_600_000,
    "chunk_ms": 3_600_000,
    "tokens": 128_000,
    "reasoning": 1_000_000,
    "cached": 10_000_000,
}


class UnknownWish(Exception):
    """A directive that does not exist, or a value that it cannot have."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for."""

    fault: Fault | None = None
    amount: int = 0  # of a fault that takes one
    delay_ms: int = 0
    chunk_ms: int = 0
    tokens: int = 0
    reasoning: int = 0
    cached: int = 0

    def is_for(self, name: str) -> bool:
        """Say whether the fault of that name is asked for."""
        return self.fault is not None and self.fault.name == name


def fault_of_model(model: str) -> tuple[Fault, int] | None:
    """Return the fault that a model name asks for, with its amount."""
    return _fault(model.removeprefix(PREFIX)) if model.startswith(PREFIX) else None


def read_wish(request: Request, model: str, chunk_ms: int) -> Wish:
    """Return what a request asks for.

    Args:
        request: with the directives in its header `x-headgate-sim`, if any.
        model: as in its body.
        chunk_ms: the pace where none is asked for.

    Raises:
        UnknownWish: a directive or a fault that does not exist.
    """
    given = next((value for name, value in request.headers if name.lower() == HEADER), "")
    if not given and not model.startswith(PREFIX):
        return Wish(chunk_ms=chunk_ms)
    values = dict(_pair(part) for part in re.split(r"[;,]", given) if part.strip())
    asked = values.pop("fault", None)
    found = _fault(asked) if asked is not None else fault_of_model(model)
    if found is None and (asked is not None or model.startswith(PREFIX)):
        raise UnknownWish(
            f"no fault is named {asked or model.removeprefix(PREFIX)!r}; there are {', '.join(FAULTS)}"
        )
    counts = {name: _count(name, text) for name, text in values.items()}
    counts.setdefault("chunk_ms", chunk_ms)
    fault, amount = found or (None, 0)
    return Wish(fault, amount, **counts)


def _pair(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    name = name.strip().lower()
    if name not in DIRECTIVES:
        raise UnknownWish(f"no directive is named {name!r}; there are {', '.join(DIRECTIVES)}")
    return name, value.strip()


def _count(name: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text) or int(text) > _MOST[name]:
        raise UnknownWish(f"{name} must be a whole number from 0 to {_MOST[name]}, but is {text!r}")
    return int(text)


def _fault(name: str) -> tuple[Fault, int] | None:
    name = name.strip().lower()
    if name in FAULTS:
        return FAULTS[name], FAULTS[name].amount
    stem, _, number = name.rpartition("-")
    if stem in FAULTS and FAULTS[stem].amount and re.fullmatch(r"\d{1,7}", number):
        return FAULTS[stem], int(number)
    return None
