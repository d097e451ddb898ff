"""What a usage costs, computed a second time: not the code that charged it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# input, output, cached, cache write, reasoning, 2 × audio, fee, above, long, and perhaps units with prices
PriceRow: TypeAlias = list[Any]
Units: TypeAlias = tuple[tuple[str, int], ...]
_MEMBERS = 10


class Tokens(NamedTuple):
    """The usage of a call, in the order of the columns of `calls`, and in other units by their names."""

    input: int
    output: int
    cached: int
    cache_write: int
    reasoning: int
    input_audio: int
    output_audio: int
    more: Units = ()

    @property
    def least(self) -> int:
        """Return the smallest count of all."""
        return min((*self[:7], *(count for _, count in self.more)))


def tokens(counts: Sequence[int], more: Iterable[tuple[str, int]] = ()) -> Tokens:
    """Return a usage; what it says twice of a unit is one sum."""
    sums: dict[str, int] = {}
    for name, count in more:
        sums[name] = sums.get(name, 0) + count
    return Tokens._make((*counts, tuple(sorted(sums.items()))))


def read_more(text: str) -> Units:
    """Return the counts in other units as the books keep them; of what cannot be read, one below zero."""
    if not text:
        return ()
    try:
        counts = json.loads(text)
    except ValueError:
        counts = None
    if not isinstance(counts, dict) or not all(type(count) is int for count in counts.values()):
        return (("unreadable", -1),)
    return tuple(counts.items())


def read_row(text: str) -> PriceRow | None:
    """Return a stored price row; None when it is not one."""
    try:
        row = json.loads(text)
    except ValueError:
        return None
    return row if _is_row(row) else None


def _is_row(row: Any) -> bool:
    if not isinstance(row, list) or not _MEMBERS <= len(row) <= _MEMBERS + 1:
        return False
    units = row[_MEMBERS] if len(row) > _MEMBERS else []
    if not isinstance(units, list) or not all(_is_unit(unit) for unit in units):
        return False
    whole = all(type(part) is int and part >= 0 for part in row[:9])
    return whole and (row[9] is None or _is_row(row[9]))


def _is_unit(unit: Any) -> bool:
    if not isinstance(unit, list) or len(unit) != 2:
        return False
    return type(unit[0]) is str and type(unit[1]) is int and unit[1] >= 0


def nano_usd(tokens: Tokens, row: PriceRow) -> int:
    """Return the price of a usage in nano-USD, rounded up once; of none, nothing."""
    if tokens.input == tokens.output == 0 and not tokens.more:
        return 0
    while row[9] is not None and tokens.input > row[8]:
        row = row[9]
    given = _side(
        tokens.input,
        row[0],
        [(tokens.cached, row[2]), (tokens.cache_write, row[3]), (tokens.input_audio, row[5])],
    )
    made = _side(tokens.output, row[1], [(tokens.reasoning, row[4]), (tokens.output_audio, row[6])])
    pico = given + made + row[7] + _units(tokens.more, row)
    return int(pico // 1000 + (pico % 1000 > 0))


def _side(total: int, price: int, parts: list[tuple[int, int]]) -> int:
    """Return the pico-USD of one side: each part at its own price as far as the total has room."""
    left, pico = total, 0
    for tokens, own in parts:
        taken = max(0, min(tokens, left))
        left -= taken
        pico += taken * own
    return pico + left * price


def _units(used: Units, row: PriceRow) -> int:
    """Return the pico-USD of what was used in other units: each at the longest row that begins its name."""
    known = row[_MEMBERS] if len(row) > _MEMBERS else []
    pico = 0
    for name, count in used:
        best, price = -1, 0
        for unit, own in known:
            if (name == unit or name.startswith(f"{unit}:")) and len(unit) > best:
                best, price = len(unit), own
        pico += count * price
    return pico
