"""A form as it comes, cut anywhere: fields whole, the bytes of files on and on (RFC 7578)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.errors import CallerError
from headgate.wire.forms import mark_of, read_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOST_PARTS: Final = 100
_LONGEST_HEAD: Final = 8 * 1024
_LONGEST_FIELD: Final = 256 * 1024


class FilePart(NamedTuple):
    """The head of a file in a form."""

    name: str
    filename: str
    kind: str


class FormStream:
    """Reads one form. What it is given and cannot use yet is less than a head, or a boundary, long.

    Args:
        content_type: of the request; says the boundary.
        on_file: told of each file when it begins.
        on_data: given the bytes of the file.

    Raises:
        CallerError: by every method; it is no form.
    """

    __slots__ = ("_mark", "_on_data", "_on_file", "_part", "_parts", "_rest", "_run", "ended", "fields")

    def __init__(
        self, content_type: bytes, on_file: Callable[[FilePart], None], on_data: Callable[[bytes], None]
    ) -> None:
        self._mark = mark_of(content_type)
        self._on_file = on_file
        self._on_data = on_data
        self._rest = b"\r\n"  # the first boundary begins a line as the others do
        self._part: str | FilePart | None = None  # what is being read: a field's name, a file; None: neither
        self._parts = 0
        self._run = self._steps()
        self.fields: dict[str, str] = {}
        self.ended = False
        next(self._run)

    def feed(self, data: bytes) -> None:
        """Take more of the form. What follows its end means nothing."""
        if not self.ended:
            self._rest += data
            next(self._run)

    def finish(self) -> None:
        """Take note that there is no more. Raises `CallerError` where the form is not complete."""
        if not self.ended:
            raise CallerError("The form is not complete: its closing boundary is missing.")

    def _steps(self) -> Iterator[None]:
        """Read the form; yields where it needs more."""
        yield from self._until_mark(lambda _data: None)
        while True:
            while len(self._rest) < 2:
                yield
            if self._rest[:2] == b"--":
                break
            yield from self._head()
            if isinstance(self._part, FilePart):
                self._on_file(self._part)
                yield from self._until_mark(self._on_data)
            else:
                yield from self._field()
        self.ended = True
        self._rest = b""
        yield

    def _until_mark(self, take: Callable[[bytes], None]) -> Iterator[None]:
        """Give what is before the next boundary away, as it comes."""
        mark = self._mark
        while (at := self._rest.find(mark)) < 0:
            keep = len(mark) - 1
            if len(self._rest) > keep:
                take(self._rest[:-keep])
                self._rest = self._rest[-keep:]
            yield
        if at:
            take(self._rest[:at])
        self._rest = self._rest[at + len(mark) :]

    def _head(self) -> Iterator[None]:
        """Read the head of a part."""
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            if len(self._rest) > _LONGEST_HEAD:
                raise CallerError(f"A part of the form has a head of more than {_LONGEST_HEAD} bytes.")
            yield
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise CallerError(f"The form has more than {_MOST_PARTS} parts.")
        if end > _LONGEST_HEAD:
            raise CallerError(f"A part of the form has a head of more than {_LONGEST_HEAD} bytes.")
        if self._rest[:2] != b"\r\n":
            raise CallerError("A part of the form has no head.")
        name, filename, kind = read_head(self._rest[:end])
        self._rest = self._rest[end + 4 :]
        self._part = FilePart(name, filename, kind) if filename else name

    def _field(self) -> Iterator[None]:
        """Read a field, whole."""
        name, parts, size = str(self._part), list[bytes](), 0

        def take(data: bytes) -> None:
            nonlocal size
            size += len(data)
            if size > _LONGEST_FIELD:
                raise CallerError(f"Invalid '{name[:100]}': it is too long.", param=name[:100])
            parts.append(data)

        yield from self._until_mark(take)
        self.fields[name] = b"".join(parts).decode("utf-8", "replace")
