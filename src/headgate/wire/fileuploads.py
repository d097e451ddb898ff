"""The objects of `/v1/uploads` and what may be asked of one. Source: OpenAI's API description, 2026-08-21."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from headgate.errors import CallerError
from headgate.shelf import FileLabel
from headgate.wire.answers import NOT_JSON
from headgate.wire.checks import Check, anything, decode, integer, list_of, missing, text, unknown
from headgate.wire.files import clean_name, file_object, kept_s, kind_of, read_purpose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.shelf import Upload, UploadPart

_US: Final = 1_000_000
_MOST_BYTES: Final = 1 << 53
_MOST_IDS: Final = 10_000
_ORDER: Mapping[str, Check] = {
    "filename": text,
    "purpose": text,
    "bytes": integer(0, _MOST_BYTES),
    "mime_type": text,
    "expires_after": anything,
}
_COMPLETION: Mapping[str, Check] = {
    "part_ids": list_of(text, most=_MOST_IDS, expected="an array of strings"),
    "md5": text,
}


class UploadOrder(NamedTuple):
    """What an upload shall become."""

    label: FileLabel
    size: int
    kept_s: int


def read_order(body: bytes) -> UploadOrder:
    """Return what a body asks for; its JSON must be sound. Raises `CallerError`."""
    given = _members(body, _ORDER)
    for name in ("filename", "purpose", "bytes", "mime_type"):
        if given.get(name) is None:
            raise missing(name)
    purpose = read_purpose(given["purpose"])
    filename = clean_name(given["filename"], "filename")
    label = FileLabel(purpose, filename, kind_of(filename, given["mime_type"]))
    return UploadOrder(label, int(given["bytes"]), kept_s(given.get("expires_after"), purpose))


def read_completion(body: bytes) -> tuple[list[str], str]:
    """Return the parts that a body names, and the MD5 or "". Raises `CallerError`."""
    given = _members(body, _COMPLETION)
    if given.get("part_ids") is None:
        raise missing("part_ids")
    return given["part_ids"], given.get("md5") or ""


def upload_object(upload: Upload) -> dict[str, Any]:
    """Return an upload as callers see it."""
    return {
        "id": upload.id,
        "object": "upload",
        "bytes": upload.size,
        "created_at": upload.created_at // _US,
        "filename": upload.label.filename,
        "purpose": upload.label.purpose,
        "status": upload.status.name.lower(),
        "expires_at": upload.expires_at // _US,
        "file": file_object(upload.file) if upload.file is not None else None,
    }


def part_object(part: UploadPart) -> dict[str, Any]:
    """Return a part as callers see it."""
    return {
        "id": part.id,
        "object": "upload.part",
        "created_at": part.created_at // _US,
        "upload_id": part.upload,
    }


def _members(body: bytes, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Return the members of a body, each checked."""
    try:
        given = decode(body)
    except NOT_JSON as fault:
        raise CallerError("We could not parse the JSON body of your request.") from fault
    if not isinstance(given, dict):
        raise CallerError("The JSON body of your request must be an object.")
    for name, value in given.items():
        check = checks.get(name)
        if check is None:
            raise unknown(name[:100])
        if value is not None:
            check(name, value)
    return given
