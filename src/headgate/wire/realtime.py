"""The events of OpenAI's Realtime API, as far as they are looked at: what is asked, what was used.

Source: the schemas `RealtimeClientEvent…` and `RealtimeServerEvent…` of OpenAI's OpenAPI file of 2026-08-21.
Everything else in an event passes as it came.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import msgspec

from headgate.errors import CallerError, GatewayError, UpstreamInterrupted
from headgate.values import Usage

_encode = msgspec.json.encode
_Limit: TypeAlias = int | str | None  # a number of tokens, or "inf"

_ABSENT = msgspec.Raw()  # in a union with None, msgspec would look into the value
_NOTHING = frozenset({b"", b"null"})

# Most base64 characters that one token of audio can take, and fewest: 100 ms of 16-bit PCM at 24 kHz are
# 4,800 bytes, of G.711 at 8 kHz 800; an output token is half as long (OpenAI's price page).
INPUT_AUDIO_CHARS = 1_066
OUTPUT_AUDIO_CHARS = 3_200


class Transcription(msgspec.Struct, frozen=True):
    """How what is spoken in is written down, which another model does."""

    model: str | None = None


class _AudioInput(msgspec.Struct, frozen=True):
    transcription: Transcription | None = None


class _Audio(msgspec.Struct, frozen=True):
    input: _AudioInput | None = None


class Session(msgspec.Struct, frozen=True):
    """The settings of a session, in either direction."""

    type: str = "realtime"
    model: str | None = None
    max_output_tokens: _Limit = None
    audio: _Audio | None = None

    @property
    def transcriber(self) -> str:
        """Return the model that writes down what is spoken in; empty for none."""
        heard = self.audio.input if self.audio is not None else None
        written = heard.transcription if heard is not None else None
        return (written.model or "") if written is not None else ""


class _Part(msgspec.Struct, frozen=True):
    audio: msgspec.Raw = _ABSENT
    image_url: msgspec.Raw = _ABSENT


class _Item(msgspec.Struct, frozen=True):
    content: list[_Part] = []


class _Asked(msgspec.Struct, frozen=True):
    max_output_tokens: _Limit = None
    prompt: msgspec.Raw = _ABSENT


class ClientEvent(msgspec.Struct, frozen=True):
    """What a client says."""

    type: str
    event_id: str | None = None
    session: Session | None = None
    response: _Asked | None = None
    item: _Item | None = None
    audio: msgspec.Raw = _ABSENT


class _Cached(msgspec.Struct, frozen=True):
    audio_tokens: int = 0
    image_tokens: int = 0


class _InputDetails(msgspec.Struct, frozen=True):
    cached_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0
    cached_tokens_details: _Cached = _Cached()


class _OutputDetails(msgspec.Struct, frozen=True):
    audio_tokens: int = 0


class EventUsage(msgspec.Struct, frozen=True):
    """What a response, or a transcription, has used."""

    type: str = "tokens"
    seconds: float = 0
    input_tokens: int = 0
    output_tokens: int = 0
    input_token_details: _InputDetails | None = None
    output_token_details: _OutputDetails | None = None

    def read(self) -> Usage:
        """Return it as the books count: of what was heard and seen, that which was not cached."""
        if self.type == "duration":  # some models that write down are billed by the second
            return Usage(more=(("second", math.ceil(max(0.0, self.seconds))),))
        given = self.input_token_details or _InputDetails()
        made = self.output_token_details or _OutputDetails()
        cached = given.cached_tokens_details
        units = {
            "input_image": given.image_tokens - cached.image_tokens,
            "cached_image": cached.image_tokens,
            "cached_audio": cached.audio_tokens,
        }
        return Usage(
            max(0, self.input_tokens),
            max(0, self.output_tokens),
            cached_tokens=max(0, given.cached_tokens),
            input_audio_tokens=max(0, given.audio_tokens - cached.audio_tokens),
            output_audio_tokens=max(0, made.audio_tokens),
            more=tuple((name, count) for name, count in units.items() if count > 0),
        )


class Response(msgspec.Struct, frozen=True):
    """A response that begins or is done. Outside of the conversation it has no `conversation_id`."""

    id: str = ""
    status: str | None = None
    conversation_id: str | None = None
    usage: EventUsage | None = None


class ServerEvent(msgspec.Struct, frozen=True):
    """What a provider says."""

    type: str
    response: Response | None = None
    response_id: str | None = None
    item_id: str | None = None
    delta: msgspec.Raw = _ABSENT
    session: Session | None = None
    usage: EventUsage | None = None


_client = msgspec.json.Decoder(ClientEvent)
_server = msgspec.json.Decoder(ServerEvent)


def read_client(message: bytes) -> ClientEvent:
    """Return a client's event.

    Raises:
        CallerError: it is no event.
    """
    try:
        return _client.decode(message)
    except msgspec.DecodeError as fault:
        raise CallerError(
            f"This is not an event of the Realtime API: {fault}.", code="invalid_event"
        ) from None


def read_server(message: bytes) -> ServerEvent:
    """Return a provider's event.

    Raises:
        UpstreamInterrupted: it is no event.
    """
    try:
        return _server.decode(message)
    except msgspec.DecodeError as fault:
        raise UpstreamInterrupted(
            f"The provider sent what is no event of the Realtime API: {fault}."
        ) from None


def given(value: msgspec.Raw) -> int:
    """Return how long a value is, in bytes of JSON; 0 where it is not there, or null."""
    raw = bytes(value)
    return 0 if raw in _NOTHING else len(raw)


def heard(event: ClientEvent, message: bytes) -> tuple[int, int]:
    """Return the most tokens that an event adds to the conversation, and to the audio not yet committed."""
    if audio := given(event.audio):
        return 0, -(-audio // INPUT_AUDIO_CHARS)
    parts = event.item.content if event.item is not None else []
    audio = sum(given(part.audio) for part in parts)
    images = [size for part in parts if (size := given(part.image_url))]
    media = -(-audio // INPUT_AUDIO_CHARS) + len(images) * IMAGE_TOKENS
    return len(message) - audio - sum(images) + media, 0


IMAGE_TOKENS = 50_000  # above what any known model counts for one image


def renamed(message: bytes, model: str) -> bytes:
    """Return an event whose session names another model."""
    members: dict[str, Any] = msgspec.json.decode(message)
    members["session"]["model"] = model
    return _encode(members)


def error_event(error: GatewayError, event_id: str, cause: str | None = None) -> bytes:
    """Return the event that tells a client of an error.

    Args:
        error: what is wrong.
        event_id: of this event.
        cause: the id of the client's event that it is about.
    """
    detail = {
        "type": error.error_type,
        "code": error.code,
        "message": error.message,
        "param": error.param,
        "event_id": cause,
    }
    return _encode({"type": "error", "event_id": event_id, "error": detail})
