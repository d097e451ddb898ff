"""What a usage costs, computed a second time: not the code that charged it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, TypeAlias

PriceRow: TypeAlias = list[Any]  # input, output, cached, cache write, reasoning, 2 × audio, fee, above, long
_MEMBERS = 10


class Tokens(NamedTuple):
    """The usage of a call, in the order of the columns of `calls`."""

    input: int
    output: int
    cached: int
    cache_write: int
    reasoning: int
    input_audio: int
    output_audio: int


def read_row(text: str) -> PriceRow | None:
    """Return a stored price row; None when it is not one."""
    try:
        row = json.loads(text)
    except ValueError:
        return None
    return row if _is_row(row) else None


def _is_row(row: Any) -> bool:
    if not isinstance(row, list) or len(row) != _MEMBERS:
        return False
    whole = all(type(part) is int and part >= 0 for part in row[:-1])
    return whole and (row[-1] is None or _is_row(row[-1]))


def nano_usd(tokens: Tokens, row: PriceRow) -> int:
    """Return the price of a usage in nano-USD, rounded up once; of none, nothing."""
    if tokens.input == tokens.output == 0:
        return 0
    while row[9] is not None and tokens.input > row[8]:
        row = row[9]
    given = _side(
        tokens.input,
        row[0],
        [(tokens.cached, row[2]), (tokens.cache_write, row[3]), (tokens.input_audio, row[5])],
    )
    made = _side(tokens.output, row[1], [(tokens.reasoning, row[4]), (tokens.output_audio, row[6])])
    pico = given + made + row[7]
    return int(pico // 1000 + (pico % 1000 > 0))


def _side(total: int, price: int, parts: list[tuple[int, int]]) -> int:
    """Return the pico-USD of one side: each part at its own price as far as the total has room."""
    left, pico = total, 0
    for tokens, own in parts:
        taken = max(0, min(tokens, left))
        left -= taken
        pico += taken * own
    return pico + left * price
