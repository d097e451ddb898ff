"""Answers that are read when they are whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.errors import UpstreamInterrupted

if TYPE_CHECKING:
    from headgate.values import Usage

_MB: Final = 1024 * 1024
MAX_ANSWER_MB: Final = 64


class Body:
    """The bytes of an answer."""

    __slots__ = ("_most_mb", "_parts", "_size")

    def __init__(self, most_mb: int = MAX_ANSWER_MB) -> None:
        self._most_mb = most_mb
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        """Keep bytes.

        Raises:
            UpstreamInterrupted: there are too many.
        """
        self._size += len(data)
        if self._size > self._most_mb * _MB:
            raise UpstreamInterrupted(f"The provider's answer is longer than {self._most_mb} MB.")
        self._parts.append(data)

    def whole(self) -> bytes:
        """Return all bytes so far."""
        return b"".join(self._parts)


class KeptAnswer:
    """A `Reader` of an answer without text; its `finish`, `end` and `produced` are its maker's."""

    __slots__ = ("_body", "_usage", "awaits_count", "done")

    def __init__(self, most_mb: int = MAX_ANSWER_MB) -> None:
        self._body = Body(most_mb)
        self._usage: Usage | None = None
        self.awaits_count = False
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """Keep bytes; nothing is passed on before the answer is whole."""
        self._body.add(data)
        return b""

    def usage(self) -> Usage | None:
        """Return the provider's count."""
        return self._usage

    def text(self) -> str:
        """Return no text."""
        return ""
