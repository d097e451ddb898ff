"""Forms of files and fields (`multipart/form-data`, RFC 7578), whole and bounded by their route's limit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from headgate.errors import CallerError

if TYPE_CHECKING:
    from collections.abc import Iterable

_BOUNDARY = re.compile(
    rb'multipart/form-data\s*;.*?boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE
)
_QUOTED = re.compile(rb'\b(name|filename)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_KIND = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}(;[ \w.=+-]{1,60})?", re.ASCII)
_MOST_PARTS = 100


class Part(NamedTuple):
    """A field, or a file."""

    name: str
    data: bytes
    filename: str = ""
    kind: str = ""  # the file's media type


def is_form(content_type: bytes) -> bool:
    """Say whether a body is a form of files and fields."""
    return content_type.lower().startswith(b"multipart/form-data")


def read_form(content_type: bytes, body: bytes) -> dict[str, Part]:
    """Return the parts of a form by their names, the last of a doubled one.

    Raises:
        CallerError: it is no form.
    """
    return {part.name: part for part in parts_of(content_type, body)}


def parts_of(content_type: bytes, body: bytes) -> list[Part]:
    """Return the parts of a form in their order.

    Raises:
        CallerError: it is no form.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise CallerError("The Content-Type of the form has no boundary.")
    mark = b"--" + (found[1] or found[2])
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise CallerError("The form is not complete: its closing boundary is missing.")
    if len(pieces) > _MOST_PARTS + 2:
        raise CallerError(f"The form has more than {_MOST_PARTS} parts.")
    return list(map(_part, pieces[1:-1]))


def written(parts: Iterable[Part], boundary: str) -> bytes:
    """Return parts as a form; the boundary must be one that nobody could have written into them."""
    pieces: list[bytes] = []
    for part in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(part.name)}"'
        if part.filename:
            head += f'; filename="{_quoted(part.filename)}"'
        if part.kind:
            head += (
                f"\r\nContent-Type: {part.kind if _KIND.fullmatch(part.kind) else 'application/octet-stream'}"
            )
        pieces += (head.encode(), b"\r\n\r\n", part.data, b"\r\n")
    return b"".join((*pieces, f"--{boundary}--\r\n".encode()))


def _quoted(text: str) -> str:
    """Return a name as browsers write it."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _part(piece: bytes) -> Part:
    head, gap, data = piece.partition(b"\r\n\r\n")
    if not gap or not head.startswith(b"\r\n"):
        raise CallerError("A part of the form has no head.")
    fields = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip()
    words = {name.lower(): value for name, value in _QUOTED.findall(fields.get(b"content-disposition", b""))}
    if b"name" not in words:
        raise CallerError("A part of the form has no name.")
    kind = fields.get(b"content-type", b"").decode("latin-1")
    return Part(_text(words[b"name"]), data, _text(words.get(b"filename", b"")), kind)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
