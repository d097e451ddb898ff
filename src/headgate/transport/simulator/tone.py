"""Sound as numbers: a tone of 16-bit PCM, and how loud what came in is."""

from __future__ import annotations

import math
import sys
from array import array

RATE = 24_000  # samples a second
_HERTZ, _AMPLITUDE = 440, 8_000
_PER_CHARACTER_S = 0.06
_LOUD = 600  # of 32,767


def spoken(text: str) -> bytes:
    """Return a tone as long as it takes to say a text: little-endian 16-bit samples, one channel."""
    count = int(len(text) * _PER_CHARACTER_S * RATE)
    edge = RATE // 100  # so that it does not click
    step = 2 * math.pi * _HERTZ / RATE
    samples = array(
        "h",
        (
            int(_AMPLITUDE * math.sin(step * index) * min(1.0, index / edge, (count - index) / edge))
            for index in range(count)
        ),
    )
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


def seconds_of(audio: bytes) -> float:
    """Return how long 16-bit audio is."""
    return len(audio) / (2 * RATE)


def loud(audio: bytes) -> bool:
    """Say whether anything can be heard in 16-bit audio."""
    samples = array("h", audio[: len(audio) // 2 * 2])
    if sys.byteorder == "big":
        samples.byteswap()
    return any(abs(sample) > _LOUD for sample in samples)
