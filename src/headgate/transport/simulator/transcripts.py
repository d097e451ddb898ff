"""Transcripts: the simulator does not hear, so it says how long the sound is, in each of OpenAI's forms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.transport.simulator.reply import STREAM_TYPE, Reply, json_reply
from headgate.wire.sound import likely_of
from headgate.wire.uploads import FILES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.transport.simulator.counting import ModelTokens
    from headgate.transport.simulator.reply import Stamp
    from headgate.transport.simulator.wishes import Wish

_TOKENS_PER_S = 10
_PLAIN = ((b"content-type", b"text/plain; charset=utf-8"),)


async def transcript_reply(members: dict[str, Any], _wish: Wish, _tokens: ModelTokens, stamp: Stamp) -> Reply:
    """Return the answer to the form of `/audio/transcriptions` or `/audio/translations`.

    Raises:
        ValueError: an empty file.
    """
    (file,) = members[FILES]
    if not file.data:
        raise ValueError(f"the file {file.filename[:60]!r} is empty")
    seconds = likely_of(file.data)
    text = f"This is a simulator, which does not hear: a sound of {seconds:.1f} seconds."
    if members.get("stream") and not stamp.model.startswith("whisper"):
        return Reply(200, STREAM_TYPE, _events(text, seconds), streamed=True)
    form = members.get("response_format") or "json"
    if form in {"srt", "vtt"}:
        return Reply(200, _PLAIN, iter((_subtitles(form, text, seconds),)))
    answer: dict[str, Any] = {"text": text, "usage": _usage(text, seconds)}
    if stamp.model.startswith("whisper"):
        answer["usage"] = {"type": "duration", "seconds": math.ceil(seconds)}
    if form == "verbose_json":
        segment = {"id": 0, "start": 0.0, "end": seconds, "text": text}
        answer = {
            "task": "transcribe",
            "language": "english",
            "duration": seconds,
            "segments": [segment],
            **answer,
        }
    return json_reply(answer)


def _usage(text: str, seconds: float) -> dict[str, Any]:
    heard, made = math.ceil(seconds * _TOKENS_PER_S), max(1, len(text) // 4)
    return {
        "type": "tokens",
        "input_tokens": heard,
        "input_token_details": {"text_tokens": 0, "audio_tokens": heard},
        "output_tokens": made,
        "total_tokens": heard + made,
    }


def _events(text: str, seconds: float) -> Iterator[bytes]:
    for word in text.split(" "):
        yield _event(
            {"type": "transcript.text.delta", "delta": word if text.startswith(word) else f" {word}"}
        )
    yield _event({"type": "transcript.text.done", "text": text, "usage": _usage(text, seconds)})


def _event(body: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(body)


def _subtitles(form: str, text: str, seconds: float) -> bytes:
    comma = "," if form == "srt" else "."
    whole, rest = divmod(round(seconds * 1000), 1000)
    end = f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{comma}{rest:03}"
    span = f"00:00:00{comma}000 --> {end}\n{text}\n\n"
    return (f"1\n{span}" if form == "srt" else f"WEBVTT\n\n{span}").encode()
