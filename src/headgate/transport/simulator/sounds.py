"""Sound that is real: tones in a WAV or as PCM, and MP3s, which are silent for want of an encoder."""

from __future__ import annotations

import io
import math
import wave
from array import array
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE: Final = 24_000  # samples per second, 16 bits, one channel: as OpenAI's PCM
_STEP_MS: Final = 60  # of one character
_PITCHES: Final = (262, 294, 330, 392, 440, 523, 587, 659)
_LOUDNESS: Final = 6_000
# MPEG-2 layer III, 64 kbit/s, 24 kHz, one channel: 576 samples and 192 bytes for each frame. A frame of zeros
# behind its head has no sound in it.
_FRAME: Final = b"\xff\xf3\x84\xc4" + bytes(188)
_FRAME_MS: Final = 24


def duration_ms(text: str, speed: float = 1.0) -> int:
    """Return how long a text takes to say."""
    return max(_STEP_MS, round(len(text) * _STEP_MS / speed))


def pcm(text: str, speed: float = 1.0) -> Iterator[bytes]:
    """Yield samples: a tone for each letter, a pause between words."""
    left = duration_ms(text, speed) * RATE // 1000
    for char in text or " ":
        tone = _tone(0 if char.isspace() else _PITCHES[ord(char) % len(_PITCHES)], speed)[: 2 * left]
        left -= len(tone) // 2
        yield tone
    yield bytes(2 * left)


def wav(text: str, speed: float = 1.0) -> Iterator[bytes]:
    """Yield a WAV, its length in its head."""
    head = io.BytesIO()
    with wave.open(head, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.setnframes(duration_ms(text, speed) * RATE // 1000)
        sound.writeframesraw(b"")
    data = bytearray(head.getvalue()[:44])
    size = 2 * (duration_ms(text, speed) * RATE // 1000)
    data[4:8], data[40:44] = (36 + size).to_bytes(4, "little"), size.to_bytes(4, "little")
    yield bytes(data)
    yield from pcm(text, speed)


def mp3(text: str, speed: float = 1.0) -> Iterator[bytes]:
    """Yield an MP3 of silence, as long as the text takes."""
    for _ in range(-(-duration_ms(text, speed) // _FRAME_MS)):
        yield _FRAME


@lru_cache(maxsize=64)
def _tone(pitch: int, speed: float) -> bytes:
    count = max(1, round(_STEP_MS / speed) * RATE // 1000)
    turn = 2 * math.pi * pitch / RATE
    samples = array("h", (round(_LOUDNESS * math.sin(turn * at) * _fade(at, count)) for at in range(count)))
    return samples.tobytes()


def _fade(at: int, count: int) -> float:
    """Return a loudness that comes and goes, so that nothing cracks."""
    return min(1.0, at / 240, (count - at) / 240)
