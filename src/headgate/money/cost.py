"""What a call costs, what it can cost at most, and how much output some money buys.

Prices are pico-USD per token, or per other unit on top; sums are exact; a call is rounded up once, to
nano-USD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.values import PICO_PER_NANO, Usage

if TYPE_CHECKING:
    from headgate.values import NanoUSD, PicoUSD, Prices, Units

UNLIMITED: Final[int] = 2**31 - 1  # output tokens, when output costs nothing

_UP = PICO_PER_NANO - 1


def cost(usage: Usage, prices: Prices) -> NanoUSD:
    """Return what a usage costs, rounded up to a nano-USD.

    `(input - cached - cache_write - audio) * input + ...`, and the same for output. A part is
    counted as far as its total has room for it, so parts that exceed their total never make the
    rest negative nor the sum larger than the total. What was used in other units comes on top. A call that
    used nothing was refused: it has no fee.
    """
    tokens_in = usage.input_tokens
    tokens_out = usage.output_tokens
    if not tokens_in and not tokens_out and not usage.more:
        return 0
    while prices.long is not None and tokens_in > prices.long_above:
        prices = prices.long
    pico = prices.request
    if usage.cached_tokens or usage.cache_write_tokens or usage.input_audio_tokens:
        pico += _input(usage, prices, tokens_in)
    else:
        pico += tokens_in * prices.input
    if usage.reasoning_tokens or usage.output_audio_tokens:
        pico += _output(usage, prices, tokens_out)
    else:
        pico += tokens_out * prices.output
    if usage.more:
        pico += _more(usage.more, prices)
    return (pico + _UP) // PICO_PER_NANO


def unit_price(name: str, prices: Prices) -> PicoUSD | None:
    """Return the price of one unit: of its own row, else of the row that its name begins with."""
    rows = dict(prices.more)
    while name not in rows:
        name = name.rpartition(":")[0]
        if not name:
            return None
    return rows[name]


def only_units(prices: Prices) -> bool:
    """Say whether a target takes money for other units and none for tokens."""
    return bool(prices.more) and not any((*msgspec.structs.astuple(prices)[:8], prices.long))


def covers(units: Units, prices: Prices) -> bool:
    """Say whether there is a price for all these units; a target that costs nothing has one for any."""
    if not any((*msgspec.structs.astuple(prices)[:8], prices.long, prices.more)):
        return True
    band: Prices | None = prices
    while band is not None:
        for name, _ in units:
            if unit_price(name, band) is None:
                return False
        band = band.long
    return True


def _more(units: Units, prices: Prices) -> PicoUSD:
    return sum(count * (unit_price(name, prices) or 0) for name, count in units)


def _input(usage: Usage, prices: Prices, rest: int) -> PicoUSD:
    pico = 0
    if part := usage.cached_tokens:
        part = min(part, rest)
        rest -= part
        pico += part * prices.cached_input
    if part := usage.cache_write_tokens:
        part = min(part, rest)
        rest -= part
        pico += part * prices.cache_write
    if part := usage.input_audio_tokens:
        part = min(part, rest)
        rest -= part
        pico += part * prices.input_audio
    return pico + rest * prices.input


def _output(usage: Usage, prices: Prices, rest: int) -> PicoUSD:
    pico = 0
    if part := usage.reasoning_tokens:
        part = min(part, rest)
        rest -= part
        pico += part * prices.reasoning
    if part := usage.output_audio_tokens:
        part = min(part, rest)
        rest -= part
        pico += part * prices.output_audio
    return pico + rest * prices.output


def upper_bound(input_tokens: int, output_tokens: int, prices: Prices, units: Units = ()) -> NanoUSD:
    """Return the most that a call within these bounds of tokens and of other units can cost.

    Every token is taken at the dearest part of its side, in the dearest band that the input
    bound can reach, so `cost` of any usage within the bounds is at most this.
    """
    bands = _bands(input_tokens, prices, units)
    worst = max(fixed + given + output_tokens * per_output for given, per_output, fixed in bands)
    return (worst + _UP) // PICO_PER_NANO


def worth(input_tokens: int, money: NanoUSD, prices: Prices, units: Units = ()) -> Usage:
    """Return the usage that a hold stands for: its input at the dearest, and the output that reaches it.

    The inverse of `upper_bound`: `cost` of the result is the hold, or above it where the input alone
    is; below it only where output is free and the hold was made for a dearer target.
    """
    while prices.long is not None and input_tokens > prices.long_above:
        prices = prices.long
    usage = Usage(input_tokens, 0, more=units)
    dearest = max(prices.cached_input, prices.cache_write, prices.input_audio)
    if dearest > prices.input:
        part = ("cached_tokens", "cache_write_tokens", "input_audio_tokens")[
            (prices.cached_input, prices.cache_write, prices.input_audio).index(dearest)
        ]
        usage = msgspec.structs.replace(usage, **{part: input_tokens})
    lack = (money - 1) * PICO_PER_NANO + 1 - prices.request - _input(usage, prices, input_tokens)
    lack -= _more(units, prices)
    per_output = max(prices.output, prices.reasoning, prices.output_audio)
    if lack <= 0 or not per_output:
        return usage
    made = -(-lack // per_output)
    part = "reasoning_tokens" if prices.reasoning == per_output else "output_audio_tokens"
    parts = {part: made} if per_output > prices.output else {}
    return msgspec.structs.replace(usage, output_tokens=made, **parts)


def affordable_output(input_tokens: int, money: NanoUSD, prices: Prices, units: Units = ()) -> int:
    """Return how many output tokens surely fit into some money, with these bounds of the rest.

    `upper_bound` of the result is at most `money`, and of one more is above it. 0 also when the
    input alone does not fit; `UNLIMITED` when output costs nothing.
    """
    left = money * PICO_PER_NANO
    fits = UNLIMITED
    for input_cost, per_output, fixed in _bands(input_tokens, prices, units):
        room = left - input_cost - fixed
        if room < 0:
            return 0
        if per_output:
            fits = min(fits, room // per_output)
    return fits


def _bands(input_tokens: int, prices: Prices, units: Units) -> list[tuple[PicoUSD, PicoUSD, PicoUSD]]:
    """Return each reachable band: its dearest input in all, one output token's price, its fee and units."""
    bands = []
    band: Prices | None = prices
    while band is not None:
        reached = band.long is not None and input_tokens > band.long_above
        tokens = band.long_above if reached else input_tokens
        per_input, per_output, fee = band.dearest()
        bands.append((tokens * per_input, per_output, fee + _more(units, band)))
        band = band.long if reached else None
    return bands
