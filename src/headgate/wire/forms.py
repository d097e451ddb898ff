"""Forms of files and fields (`multipart/form-data`, RFC 7578), in memory or mapped from a file."""

from __future__ import annotations

import re
import sys
from itertools import groupby
from mmap import mmap
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from headgate.errors import CallerError

if sys.platform != "win32":
    from mmap import MADV_DONTNEED

if TYPE_CHECKING:
    from collections.abc import Iterable

_BOUNDARY = re.compile(
    rb'multipart/form-data\s*;.*?boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE
)
_QUOTED = re.compile(rb'\b(name|filename)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_PLAIN = re.compile(rb'\b(name|filename)="([^"]*)"', re.IGNORECASE)
_KIND = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}(;[ \w.=+-]{1,60})?", re.ASCII)
_MOST_PARTS = 100
_LONGEST_HEAD = 8 * 1024


Buffer: TypeAlias = "bytes | memoryview"


class Part(NamedTuple):
    """A field, or a file, which may be a part of a form that is elsewhere than in memory."""

    name: str
    data: Buffer
    filename: str = ""
    kind: str = ""  # the file's media type

    def text(self) -> str:
        """Return a field's value."""
        return bytes(self.data).decode("utf-8", "replace")


def forget(body: object) -> None:
    """Give back the memory of a mapped form that has been looked at; it is read again where it is wanted."""
    if isinstance(body, mmap) and sys.platform != "win32":
        body.madvise(MADV_DONTNEED)


def is_form(content_type: bytes) -> bool:
    """Say whether a body is a form of files and fields."""
    return content_type.lower().startswith(b"multipart/form-data")


def read_form(content_type: bytes, body: bytes | mmap) -> dict[str, Part]:
    """Return the parts of a form by their names, the last of a doubled one.

    Raises:
        CallerError: it is no form.
    """
    return {part.name: part for part in parts_of(content_type, body)}


def parts_of(content_type: bytes, body: bytes | mmap) -> list[Part]:
    """Return the parts of a form in their order; the files of a mapped one are views of it.

    Raises:
        CallerError: it is no form.
    """
    mark = mark_of(content_type)
    first = len(mark) - 2
    at = 0 if body[:first] == mark[2:] else body.find(mark) + 2
    parts: list[Part] = []
    while at != 1:
        begin = at + first
        end = body.find(mark, begin)
        if end < 0:
            if body[begin : begin + 2] != b"--":
                break
            return parts
        if len(parts) == _MOST_PARTS:
            raise CallerError(f"The form has more than {_MOST_PARTS} parts.")
        parts.append(_part(body, begin, end))
        at = end + 2
    raise CallerError("The form is not complete: its closing boundary is missing.")


def mark_of(content_type: bytes) -> bytes:
    """Return what stands between the parts of a form.

    Raises:
        CallerError: its content type does not say.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise CallerError("The Content-Type of the form has no boundary.")
    return b"\r\n--" + (found[1] or found[2])


def written(parts: Iterable[Part], boundary: str) -> list[Buffer]:
    """Return parts as a form, in pieces: the views among them stay views.

    The boundary must be one that nobody could have written into them.
    """
    pieces: list[Buffer] = []
    for part in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(part.name)}"'
        if part.filename:
            head += f'; filename="{_quoted(part.filename)}"'
        if part.kind:
            head += (
                f"\r\nContent-Type: {part.kind if _KIND.fullmatch(part.kind) else 'application/octet-stream'}"
            )
        pieces += (head.encode(), b"\r\n\r\n", part.data, b"\r\n")
    pieces.append(f"--{boundary}--\r\n".encode())
    joined = groupby(pieces, lambda piece: isinstance(piece, bytes))
    return [piece for small, run in joined for piece in ([b"".join(run)] if small else run)]


def _quoted(text: str) -> str:
    """Return a name as browsers write it."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _part(body: bytes | mmap, begin: int, end: int) -> Part:
    stop = body.find(b"\r\n\r\n", begin, end)
    if stop < 0 or body[begin : begin + 2] != b"\r\n":
        raise CallerError("A part of the form has no head.")
    if stop - begin > _LONGEST_HEAD:
        raise CallerError(f"A part of the form has a head of more than {_LONGEST_HEAD} bytes.")
    name, filename, kind = read_head(body[begin:stop])
    mapped = filename and not isinstance(body, bytes)
    data = memoryview(body)[stop + 4 : end] if mapped else body[stop + 4 : end]
    return Part(name, data, filename, kind)


def read_head(head: bytes) -> tuple[str, str, str]:
    """Return the name, the file's name and the media type that the head of a part says.

    Raises:
        CallerError: it has no name.
    """
    fields = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip()
    said = fields.get(b"content-disposition", b"")
    # Programs escape a backslash before a quote, browsers do not: `"C:\"` is read as they mean it.
    words = {name.lower(): value for name, value in (*_PLAIN.findall(said), *_QUOTED.findall(said))}
    if b"name" not in words:
        raise CallerError("A part of the form has no name.")
    kind = fields.get(b"content-type", b"").decode("latin-1")
    return _text(words[b"name"]), _text(words.get(b"filename", b"")), kind


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
