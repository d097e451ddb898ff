"""Upper bounds of what a call can use and cost. A hold rests on them, so they are never below the truth.

Input: a token is at least one byte, so text counts as many tokens as it has UTF-8 bytes (times the
model's factor); where money is tight and the tokenizer exact, as many as were counted. Media add the
most that a model makes of them. What the request does not show (files, videos, what a search finds,
members that only the host knows) is bounded by the model's window, above which no count is believed.

Output: the limit that is sent, else the model's own, times the choices; a rejected prediction on top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.money.cost import covers, only_units, unit_price, upper_bound
from headgate.money.tally import AUDIO_CHARS_PER_TOKEN, AUDIO_LEAST, FILE_USUAL, HIDDEN, IMAGE_BOUND
from headgate.values import PICO_PER_NANO

if TYPE_CHECKING:
    from headgate.values import Call, Media, Model, NanoUSD, Operation, Target, Units

TEXTLESS: Final[frozenset[Operation]] = frozenset(
    {
        *("embeddings", "moderations", "images", "speech"),
        *("image_edits", "image_variations", "transcriptions", "translations"),
    }
)  # no limit is sent
# Tokens that a template adds beyond the bytes of `{"role":"user","content":""}` for each message.
PRIMING = 16  # where the tokenizer, and so the template, is known
TEMPLATE = 128
FRAMED_TOOLS = 64
TOOLS_TEMPLATE = 1_024  # the longest system prompt that a maker adds where there are tools
MOST_OUTPUT = 131_072  # tokens per choice: what a model makes of which nothing is known
ASSUMED_OUTPUT = 32_768  # tokens per choice: the limit sent on capped accounts where nobody knows one
ASSUMED_BLINDLY = 8_192  # the same where not even the window is known
MIN_SHRUNK = 1_024  # tokens: no limit of ours is below this

_PPM = 1_000_000
_PAINTED = "output_image"
_IMAGE_USUAL = 1_000
_AUDIO_CHARS_USUAL = 6_400


def output_bound(call: Call, target: Target) -> int:
    """Return the most output tokens that a call can be billed for at a target."""
    limit = call.max_output
    if limit is None:
        chat = call.operation == "chat"
        limit = call.shrunk_to or (chat and target.model.max_output) or _unasked(call, target)
    return (limit + call.predicted) * call.n


def output_limit(call: Call, target: Target) -> int:
    """Return the same of one choice, rejected predictions apart."""
    return output_bound(call, target) // call.n - call.predicted


def _unasked(call: Call, target: Target) -> int:
    """Return the most that a provider makes of one choice when no limit is sent."""
    if call.operation in TEXTLESS:
        return 0
    if call.operation == "completions" and target.host.completion_tokens:
        return target.host.completion_tokens
    model = target.model
    return model.max_output or min(model.context_window or MOST_OUTPUT, MOST_OUTPUT)


def assumed_output(call: Call, targets: tuple[Target, ...]) -> int:
    """Return the limit that must be sent for a hold to rest on; 0 where the providers keep one anyway."""
    if call.max_output is not None or call.operation in TEXTLESS:
        return 0
    for target in targets:
        if not (target.model.max_output or _keeps_a_limit(call, target)):
            break
    else:
        return 0
    return min(_assumed(call, target) for target in targets)


def _keeps_a_limit(call: Call, target: Target) -> bool:
    model = target.model
    if model.max_output or 0 < model.context_window <= ASSUMED_OUTPUT:
        return True
    return call.operation == "completions" and bool(target.host.completion_tokens)


def _assumed(call: Call, target: Target) -> int:
    if _keeps_a_limit(call, target):
        return _unasked(call, target)
    window = target.model.context_window
    if not window:
        return ASSUMED_BLINDLY
    # Providers refuse a limit that passes the window together with the input.
    return min(ASSUMED_OUTPUT, max(MIN_SHRUNK, window - 2 * rough_input(call)))


def input_bound(call: Call, target: Target) -> int:
    """Return an upper bound of the input tokens at a target."""
    model = target.model
    tokens = call.input_bytes + (PRIMING if model.exact else TEMPLATE)
    if call.shaped:  # rendered with escapes or indented, JSON may grow to twice its bytes
        tokens += FRAMED_TOOLS if model.exact else call.shaped + TOOLS_TEMPLATE
    if call.shape is not None:
        tokens += call.shape.spare_input
    if model.bytes_factor_ppm != _PPM:
        tokens = -(-tokens * model.bytes_factor_ppm // _PPM)
    if call.media is not None:
        tokens += _media_bound(call.media, model)
    if call.counted is not None:
        tokens = min(tokens, call.counted.get((target.host.name, model.name), tokens))
    if tokens > model.context_window and model.context_window:
        return min(tokens, model.context_window * call.inputs)
    return tokens


def _media_bound(media: Media, model: Model) -> int:
    tokens = media.images * (model.image_tokens or IMAGE_BOUND) + media.hidden * HIDDEN
    if media.audio:
        tokens += media.audio // AUDIO_CHARS_PER_TOKEN + AUDIO_LEAST
    return tokens


def units_bound(call: Call, target: Target) -> Units:
    """Return the most that a call can use at a target in other units than tokens.

    What some hosts bill by the piece and others by tokens is bounded in the unit that has a price.
    """
    prices = target.prices
    if call.measures is None:
        if call.operation == "chat" and prices is not None and unit_price(_PAINTED, prices) is not None:
            return (*call.units, (_PAINTED, output_bound(call, target)))  # any may be an image's
        return call.units
    pieces, tokens = call.measures
    if prices is None or not any(msgspec.structs.astuple(prices)) or covers(pieces, prices):
        return (*call.units, *pieces)
    return (*call.units, *(unit for unit in tokens if unit_price(unit[0], prices) is not None))


def priced(call: Call, target: Target) -> Target:
    """Return a target; unpriced for this call where it has no price for a unit that the call may use."""
    prices = target.prices
    if prices is None:
        return target
    units = units_bound(call, target)
    if covers(units, prices) and (units or not only_units(prices)):
        return target
    return msgspec.structs.replace(target, prices=None, costs=None)


def bound(call: Call, targets: tuple[Target, ...]) -> NanoUSD:
    """Return what the call can cost at the dearest of its targets."""
    return weigh(call, targets)[0]


def weigh(call: Call, targets: tuple[Target, ...]) -> tuple[NanoUSD, int]:
    """Return what the call can cost at the dearest of its targets, and its input's tokens; 0: at several."""
    if len(targets) > 1:
        return max(_each_weighed(call, targets)), 0
    target = targets[0]
    given = input_bound(call, target)
    made = output_bound(call, target)
    flat = target.flat
    if flat is not None:
        per_input, per_output, fee = flat
        return -(-(given * per_input + made * per_output + fee) // PICO_PER_NANO), given
    if target.prices is None:
        return 0, given
    units = units_bound(call, target) if target.by_unit else call.units
    return upper_bound(given, made, target.prices, units), given


def _each_weighed(call: Call, targets: tuple[Target, ...]) -> list[NanoUSD]:
    return [weigh(call, (target,))[0] for target in targets]


def most_used(call: Call, targets: tuple[Target, ...]) -> tuple[int, bool]:
    """Return how many tokens the call can use at a target, and whether it may use other units too."""
    most, other = 0, bool(call.units)
    for target in targets:
        most = max(most, input_bound(call, target) + output_bound(call, target))
        other = other or (target.by_unit and bool(units_bound(call, target)))
    return most, other


def rough_input(call: Call) -> int:
    """Return a guess of the input's tokens without a tokenizer: a quarter of its bytes."""
    tokens = -(-call.input_bytes // 4)
    if call.media is not None:
        media = call.media
        tokens += media.images * _IMAGE_USUAL + media.audio // _AUDIO_CHARS_USUAL + media.files * FILE_USUAL
    return tokens
