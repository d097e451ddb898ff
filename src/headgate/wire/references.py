"""Files of ours that a request names: where it does, and the members with their bytes in place of the names.

Source: `file.file_id` in the content of chat's messages, and `ImageRefParam` (`images`, `mask`,
`input_reference`) in OpenAI's OpenAPI file of 2026-08-21. A name is ours by its form: providers draw theirs
from both cases, and know them.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from headgate.errors import CallerError
from headgate.wire.checks import Json, mapping, missing, short_text, text, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headgate.shelf import FileLabel
    from headgate.values import Call

LONGEST_URL: Final = 20_971_520  # characters of an image's address, a data URL too
LARGEST_PICTURE: Final = LONGEST_URL // 4 * 3 - 96  # bytes of an image whose data URL is not longer
MOST_NAMED: Final = 50  # times that a request names a file
_OURS: Final = re.compile(r"file-(?:[0-9a-f]{24}|[0-9a-f]{32})")
_KIND: Final = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}", re.ASCII)
_MARKS: Final = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
_ANY: Final = "application/octet-stream"
_FILE: Final = b'"file"'
_REFERENCE: Final = ("image_url", "file_id")
_dicts = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_dict = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.encode


def is_ours(name: object) -> bool:
    """Say whether a file's name is of the form that ours have."""
    return isinstance(name, str) and _OURS.fullmatch(name) is not None


# ── what a reference to an image may say ─────────────────────────────────────────────────────────


def picture_reference(path: str, value: Json) -> None:
    """Accept an address or a file: exactly one of them."""
    mapping(path, value)
    for name in value:
        if name not in _REFERENCE:
            raise unknown(f"{path}.{name}")
    given = [name for name in _REFERENCE if value.get(name) is not None]
    if not given:
        raise missing(f"{path}.image_url")
    if len(given) > 1:
        raise CallerError(
            f"Mutually exclusive parameters: '{path}'. Ensure you are only providing one of: 'image_url' or "
            "'file_id'.",
            param=path,
            code="mutually_exclusive_parameters",
        )
    check = short_text(LONGEST_URL) if given[0] == "image_url" else text
    check(f"{path}.{given[0]}", value[given[0]])


def names_file(file: bytes) -> bool:
    """Say whether the `file` of a part is one of ours, named and not brought."""
    try:
        return is_ours(_named(_dict(file)))
    except msgspec.DecodeError:
        return False


def _named(file: dict[str, Any]) -> object:
    return file.get("file_id") if file.get("file_data") is None else None


# ── where a call names them ──────────────────────────────────────────────────────────────────────


class Place(NamedTuple):
    """A place where a file of ours is named."""

    name: str
    param: str
    picture: bool  # only an image can stand there
    holder: dict[str, Any]  # the object that names it, of which `put` makes one that has its bytes

    def put(self, url: str, filename: str) -> None:
        """Let a data URL stand there: the same reference as if the caller had brought the bytes."""
        del self.holder["file_id"]
        if self.picture:
            self.holder["image_url"] = url
        else:
            self.holder["filename"] = self.holder.get("filename") or filename
            self.holder["file_data"] = url


class Named:
    """The files of ours that a parsed call names, and the members that name them.

    Args:
        call: of chat, or of edits of images as JSON.

    Raises:
        CallerError: it names too many.
    """

    def __init__(self, call: Call) -> None:
        self.places: list[Place] = []
        self._members: dict[str, Any] = {}
        members = call.members
        if "messages" in members:
            self._members["messages"] = messages = _dicts(members["messages"])
            self.places += [place for at, each in enumerate(messages) for place in _in_message(at, each)]
        for name in ("images", "mask"):
            if name in members:
                self._members[name] = value = msgspec.json.decode(members[name])
                self.places += _in_pictures(name, value)
        if len(self.places) > MOST_NAMED:
            raise CallerError(
                f"The request names {len(self.places)} files; at most {MOST_NAMED} can be named in one.",
                param=self.places[-1].param,
                code="too_many_files",
            )

    def written(self, urls: Mapping[str, Sequence[bytes]]) -> dict[str, msgspec.Raw]:
        """Return the members that named files.

        Args:
            urls: data URLs, in slices, by what was put in their places: texts that stand nowhere else. So
                what is long is copied once.
        """
        return {name: msgspec.Raw(_spliced(_encode(value), urls)) for name, value in self._members.items()}


def _spliced(text: bytes, urls: Mapping[str, Sequence[bytes]]) -> bytes:
    if not urls:
        return text
    found = re.split(b"(%b)" % b"|".join(re.escape(mark.encode()) for mark in urls), text)
    pieces = [urls[piece.decode()] if at % 2 else (piece,) for at, piece in enumerate(found)]
    return b"".join(chain.from_iterable(pieces))


def _in_message(at: int, message: dict[str, Any]) -> Iterator[Place]:
    content = bytes(message.get("content", b""))
    if not content.startswith(b"["):
        return
    message["content"] = parts = _dicts(content)
    for index, part in enumerate(parts):
        if bytes(part["type"]) != _FILE or not names_file(bytes(part.get("file", b"null"))):
            continue
        holder = _dict(part["file"])
        changed: dict[str, Any] = part
        changed["file"] = holder
        param = f"messages[{at}].content[{index}].file.file_id"
        yield Place(holder["file_id"], param, picture=False, holder=holder)


def _in_pictures(name: str, value: Json) -> Iterator[Place]:
    listed = [(f"{name}[{at}]", each) for at, each in enumerate(value)] if isinstance(value, list) else []
    for path, each in listed or [(name, value)]:
        if isinstance(each, dict) and is_ours(each.get("file_id")):
            yield Place(each["file_id"], f"{path}.file_id", picture=True, holder=each)


# ── of what kind a file is ───────────────────────────────────────────────────────────────────────


def kind_of(begin: bytes, label: FileLabel) -> str:
    """Return the media type of a file: by its first bytes, else by what was said when it came."""
    if begin.startswith(b"%PDF-"):
        return "application/pdf"
    return label.kind if _KIND.fullmatch(label.kind) else _ANY


def picture_kind(begin: bytes, param: str) -> str:
    """Return the media type of an image by its first bytes.

    Raises:
        CallerError: it is none that models take.
    """
    for mark, kind in _MARKS:
        if begin.startswith(mark):
            return kind
    if begin.startswith(b"RIFF") and begin[8:12] == b"WEBP":
        return "image/webp"
    raise CallerError(
        "Invalid image file or mode: this file is no PNG, JPEG or WebP.",
        param=param,
        code="invalid_image_file",
    )
