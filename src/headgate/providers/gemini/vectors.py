"""Embeddings in a batch: there a request has one text, here as many as its caller likes.

So a line of ours is as many lines there, whose keys say which they are, of how many: `7.0.3` is the first
text of three of the line 7. Their answers are put together to what a call would have got
(`:batchEmbedContents`). Google writes answers in the order of the requests; what comes otherwise is kept
until the rest is there.

Facts: google-genai 3.4 (`SingleEmbedContentResponse`: `embedding` and `tokenCount`, a number or a text).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from headgate.providers.batches import LineAnswer
from headgate.providers.batchread import unread

if TYPE_CHECKING:
    from collections.abc import Callable

EMBEDDINGS: Final = "/v1/embeddings"
_KEY: Final = re.compile(r"([0-9]{1,6})\.([0-9]{1,6})\.([0-9]{1,6})")
_MOST_KEPT: Final = 256 * 1024 * 1024  # bytes of answers whose lines are not whole
_encode = msgspec.json.encode


class Told(NamedTuple):
    """What a line of a file says."""

    key: str
    status: int  # 0: its request was not run
    body: bytes  # JSON


class _Texts(msgspec.Struct, frozen=True):
    requests: tuple[msgspec.Raw, ...]


class _Text(msgspec.Struct):
    key: str
    request: msgspec.Raw


class _Vector(msgspec.Struct, frozen=True, rename="camel"):
    embedding: msgspec.Raw
    token_count: int | str | None = None


_texts = msgspec.json.Decoder(_Texts).decode
_vector = msgspec.json.Decoder(_Vector).decode


def texts_apart(n: int, body: bytes) -> list[bytes]:
    """Return the lines of a request's texts, without their ends."""
    found = _texts(body).requests
    return [_encode(_Text(f"{n}.{at}.{len(found)}", request)) for at, request in enumerate(found)]


class Vectors:
    """Puts answers together.

    Args:
        told: returns what a line of a file says.
    """

    def __init__(self, told: Callable[[bytes], Told]) -> None:
        self._told = told
        self._kept: dict[int, dict[int, Told]] = {}  # by line, by text
        self._size = 0

    def take(self, data: bytes) -> LineAnswer | None:
        """Return the answer to a line, once all its texts have theirs and all were run.

        Raises:
            UpstreamInterrupted: it says nothing, or is of none of ours, or too much is out of order.
        """
        told = self._told(data)
        found = _KEY.fullmatch(told.key)
        if found is None:
            raise unread(f"it is of {told.key[:80]!r}, which was not sent")
        n, at, of = map(int, found.groups())
        texts = self._kept.setdefault(n, {})
        self._size += len(told.body) - len(texts[at].body if at in texts else b"")
        texts[at] = told
        if len(texts) < of:
            self._bound(n)
            return None
        del self._kept[n]
        self._size -= sum(len(each.body) for each in texts.values())
        return _together(n, [texts[at] for at in sorted(texts)])

    def _bound(self, n: int) -> None:
        if self._size > _MOST_KEPT:
            gone = self._kept.pop(next(iter(self._kept)))
            self._size -= sum(len(each.body) for each in gone.values())
            raise unread(f"too much is out of order around the line {n}")


def _together(n: int, texts: list[Told]) -> LineAnswer | None:
    """Return what a call would have got; None: a text was not run."""
    wrong = next((each for each in texts if each.status != 200), None)
    if wrong is not None:
        return LineAnswer(n, wrong.status, wrong.body) if wrong.status else None
    try:
        vectors = [_vector(each.body) for each in texts]
        counts = [int(each.token_count) for each in vectors if each.token_count is not None]
    except (msgspec.DecodeError, RecursionError, ValueError) as fault:
        raise unread(fault) from fault
    answer: dict[str, object] = {"embeddings": [each.embedding for each in vectors]}
    if len(counts) == len(vectors):  # else nobody has counted, and we do
        answer["usageMetadata"] = {"promptTokenCount": sum(counts)}
    return LineAnswer(n, 200, _encode(answer))
