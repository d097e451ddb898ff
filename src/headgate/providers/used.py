"""What answers that are no text say that they used, in tokens or by the piece."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.money.cost import covers
from headgate.values import Usage
from headgate.wire.answers import MOST_TOKENS, WireUsage
from headgate.wire.sound import length_of

if TYPE_CHECKING:
    from headgate.providers.plain import PlainAnswer
    from headgate.values import Call, Target, Units


def input_usage(answer: PlainAnswer, _call: Call, target: Target) -> Usage | None:
    """Return the tokens of an input; where it costs nothing and nobody counted, how many there were."""
    if answer.usage is not None:
        try:
            return msgspec.convert(answer.usage, WireUsage).read()
        except msgspec.ValidationError:
            return None
    if _free(target):
        return Usage(more=(("input", len(answer.results or ())),))
    return None


class _Details(msgspec.Struct, gc=False):
    text_tokens: int | None = 0
    image_tokens: int | None = 0
    audio_tokens: int | None = 0
    cached_tokens: int | None = 0


_NONE = _Details()


class TokenUsage(msgspec.Struct, gc=False):
    """`usage` of images, speech and transcripts, where it is in tokens."""

    input_tokens: int | None = 0
    output_tokens: int | None = 0
    input_tokens_details: _Details | None = None
    input_token_details: _Details | None = None  # of transcripts
    output_tokens_details: _Details | None = None

    @property
    def given(self) -> _Details:
        """Return what the input is made of."""
        return self.input_tokens_details or self.input_token_details or _NONE

    @property
    def made(self) -> _Details:
        """Return what the output is made of."""
        return self.output_tokens_details or _NONE


def token_usage(usage: Any) -> TokenUsage | None:
    """Return a usage in tokens; None where it is not one that can be true."""
    try:
        read = msgspec.convert(usage, TokenUsage)
    except msgspec.ValidationError:
        return None
    given, made = read.input_tokens or 0, read.output_tokens or 0
    parts = [*msgspec.structs.astuple(read.given), *msgspec.structs.astuple(read.made)]
    if not min(given, made, *(part or 0 for part in parts)) >= 0 or max(given, made) > MOST_TOKENS:
        return None
    return read if given or made else None


def image_usage(answer: PlainAnswer, call: Call, target: Target) -> Usage | None:
    """Return what images took: by the piece where the target has such prices, in tokens where told."""
    assert call.measures is not None
    ((name, asked),) = call.measures[0]
    count = asked if answer.data is None else len(answer.data)
    pieces: Units = ((name, count),)
    tokens = token_usage(answer.usage) if answer.usage is not None else None
    by_piece = _free(target) or (target.prices is not None and covers(pieces, target.prices))
    if tokens is None:
        return Usage(more=pieces) if by_piece or target.prices is None else None
    given, made = tokens.input_tokens or 0, tokens.output_tokens or 0
    seen = min(tokens.given.image_tokens or 0, given)
    # Where the output is not told apart, it is the images'.
    painted = min(tokens.made.image_tokens or 0, made) if tokens.output_tokens_details else made
    more = pieces if by_piece else tuple(
        (unit, n) for unit, n in (("input_image", seen), ("output_image", painted)) if n
    )  # fmt: skip
    return Usage(given, made, min(tokens.given.cached_tokens or 0, given), more=more)


def spoken_usage(answer: PlainAnswer, call: Call, target: Target) -> Usage | None:
    """Return what was said or heard: in tokens where they are told, by the piece where that has a price."""
    assert call.measures is not None
    pieces = call.measures[0]
    tokens = token_usage(answer.usage) if answer.usage is not None else None
    by_piece = target.prices is None or _free(target) or covers(pieces, target.prices)
    if tokens is None:
        return Usage(more=pieces) if by_piece else None
    given, made = tokens.input_tokens or 0, tokens.output_tokens or 0
    heard = min(tokens.given.audio_tokens or 0, given)
    return Usage(given, made, input_audio_tokens=heard, more=pieces if by_piece else ())


def heard_usage(answer: PlainAnswer, call: Call, target: Target) -> Usage | None:
    """Return what was listened to: in tokens or seconds, as the answer says; else the sound's length."""
    given = answer.usage if isinstance(answer.usage, dict) else {}
    if given.get("type") != "duration" and answer.usage is not None:
        return spoken_usage(answer, call, target)
    assert call.measures is not None
    seconds = given.get("seconds", answer.duration)
    if type(seconds) not in {int, float} or not 0 <= seconds < MOST_TOKENS:
        seconds = length_of(call.files[0].data) if call.files else None
    if seconds is None or not (
        target.prices is None or _free(target) or covers(call.measures[0], target.prices)
    ):
        return None
    return Usage(more=(("second", math.ceil(seconds)),))


def _free(target: Target) -> bool:
    return target.prices is not None and not any(msgspec.structs.astuple(target.prices))
