"""An answer in the making: its head, and the steps in which its body arrives."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from headgate.errors import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Bytes that arrive, seconds in which nothing does (inf: for ever), or what breaks the answer off.
Step: TypeAlias = bytes | float | UpstreamError
Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
JSON_TYPE: Headers = ((b"content-type", b"application/json"),)
STREAM_TYPE: Headers = ((b"content-type", b"text/event-stream; charset=utf-8"),)
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the simulated provider sends.

    `parts` are the frames of a stream, or the pieces of a JSON body. `whole_frames` is false where the
    parts must arrive one by one and not be joined into fewer reads.
    """

    status: int
    headers: Headers
    parts: Iterator[Step]
    streamed: bool = False
    whole_frames: bool = True

    def paced(self, pause_s: float) -> Reply:
        """Return the reply with a pause before each frame, where it is a stream."""
        if not pause_s or not self.streamed:
            return self
        return self.with_parts(step for part in self.parts for step in (pause_s, part))

    def with_parts(self, parts: Iterator[Step]) -> Reply:
        """Return the reply with another body."""
        return replace(self, parts=parts)


def json_reply(value: object, status: int = 200, headers: Headers = ()) -> Reply:
    """Return a JSON answer."""
    body = msgspec.json.encode(value)
    length = (b"content-length", str(len(body)).encode())
    return Reply(status, (*JSON_TYPE, length, *headers), iter((body,)))


def error_reply(status: int, message: str, kind: str, code: str | None, headers: Headers = ()) -> Reply:
    """Return an error in OpenAI's shape."""
    return json_reply(error_body(message, kind, code), status, headers)


def error_body(message: str, kind: str, code: str | None, param: str | None = None) -> dict[str, object]:
    """Return an error body."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def letters(seed: bytes, length: int) -> str:
    """Return letters and digits that depend on the seed alone, for ids."""
    number = int.from_bytes(hashlib.blake2b(seed, digest_size=32).digest())
    out = []
    for _ in range(length):
        number, at = divmod(number, 62)
        out.append(_BASE62[at])
    return "".join(out)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every part of one answer carries."""

    seed: bytes
    created: int  # Unix seconds
    model: str

    def id(self, prefix: str) -> str:
        """Return the answer's id."""
        return prefix + letters(self.seed, 29)
