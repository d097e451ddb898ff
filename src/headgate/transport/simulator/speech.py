"""Speech: tones instead of a voice, as WAV, PCM or a silent MP3, whole or in events."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.transport.simulator import sounds
from headgate.transport.simulator.reply import STREAM_TYPE, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.transport.simulator.counting import ModelTokens
    from headgate.transport.simulator.reply import Stamp
    from headgate.transport.simulator.wishes import Wish

_MADE: Final[dict[str, tuple[str, Callable[[str, float], Iterator[bytes]]]]] = {
    "mp3": ("audio/mpeg", sounds.mp3),
    "wav": ("audio/wav", sounds.wav),
    "pcm": ("audio/pcm", sounds.pcm),
}
_TOKENS_PER_S: Final = 20
_EVENT_BYTES: Final = 24_000
_PIECE_BYTES: Final = 48_000


class SpeechAsked(msgspec.Struct):
    """The body of `/audio/speech`."""

    model: str
    input: str
    response_format: str | None = None
    speed: float | None = None
    stream_format: str | None = None


async def speech_reply(members: dict[str, Any], _wish: Wish, _tokens: ModelTokens, stamp: Stamp) -> Reply:
    """Return the answer to a decoded body of `/audio/speech`.

    Raises:
        ValueError: a format that cannot be made here, or events of a model that has none.
    """
    asked = msgspec.convert(members, SpeechAsked)
    found = _MADE.get(asked.response_format or "mp3")
    if found is None:
        raise ValueError(f"it makes {', '.join(_MADE)}; {asked.response_format} needs a real model")
    kind, make = found
    pieces = make(asked.input, asked.speed or 1.0)
    if asked.stream_format != "sse":
        return Reply(200, ((b"content-type", kind.encode()),), _joined(pieces, _PIECE_BYTES), streamed=True)
    if stamp.model.startswith("tts-1"):
        raise ValueError(f"{stamp.model} has no stream_format sse, at OpenAI neither")
    given = max(1, len(asked.input.encode()) // 4)
    made = -(-sounds.duration_ms(asked.input, asked.speed or 1.0) * _TOKENS_PER_S // 1000)
    usage = {"input_tokens": given, "output_tokens": made, "total_tokens": given + made}
    return Reply(200, STREAM_TYPE, _events(_joined(pieces, _EVENT_BYTES), usage), streamed=True)


def _events(pieces: Iterator[bytes], usage: dict[str, int]) -> Iterator[bytes]:
    for piece in pieces:
        yield _event({"type": "speech.audio.delta", "audio": b64encode(piece).decode()})
    yield _event({"type": "speech.audio.done", "usage": usage})


def _event(body: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(body)


def _joined(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield the same bytes in pieces of about a size."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= size:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
