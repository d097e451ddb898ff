"""The objects of `/v1/files` and what may be said of a file. Source: OpenAI's API description, 2026-08-21."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any, Final

from headgate.errors import CallerError, NotFound
from headgate.shelf import FileLabel
from headgate.wire.checks import missing, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.shelf import StoredFile

PURPOSES: Final = ("fine-tune", "assistants", "batch", "user_data", "vision", "evals")  # of what is brought
MADE: Final = ("assistants_output", "batch_output", "fine-tune-results")  # of what comes of it
_US: Final = 1_000_000
_SHORTEST_S, _LONGEST_S = 3_600, 2_592_000
_BATCH_S: Final = 2_592_000  # OpenAI keeps files of batches for 30 days where nothing else is said
_LONGEST_NAME: Final = 512  # characters
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # categories of characters
_KNOWN_KINDS: Final = {
    "csv": "text/csv",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "md": "text/markdown",
    "txt": "text/plain",
}


def file_object(file: StoredFile) -> dict[str, Any]:
    """Return a file as callers see it."""
    expires_at = file.label.expires_at
    return {
        "object": "file",
        "id": file.id,
        "purpose": file.label.purpose,
        "filename": file.label.filename,
        "bytes": file.size,
        "created_at": file.created_at // _US,
        "expires_at": expires_at // _US if expires_at else None,
        "status": "processed",
        "status_details": None,
    }


def no_such_file(name: str, param: str = "id") -> NotFound:
    """Return the refusal of a file that is none of the caller's."""
    return NotFound(f"No such File object: {name[:100]}", param=param)


def read_label(fields: Mapping[str, str], filename: str, kind: str, now: int) -> FileLabel:
    """Return what the fields of a form say of its file.

    Args:
        fields: by name, as they came.
        filename: of the file's part.
        kind: its media type, or empty.
        now: wall time, in microseconds.

    Raises:
        CallerError: a field is missing, unknown or wrong.
    """
    given = dict(fields)
    purpose = read_purpose(given.pop("purpose", None))
    anchor = given.pop("expires_after[anchor]", None)
    seconds: object = given.pop("expires_after[seconds]", None)
    if isinstance(seconds, str):
        number = whole(seconds)
        seconds = seconds if number is None else number
    if given:
        name = min(given)[:100]
        raise CallerError(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    after = {"anchor": anchor, "seconds": seconds} if (anchor, seconds) != (None, None) else None
    return FileLabel(purpose, clean_name(filename), kind_of(filename, kind), expiry(after, purpose, now))


def read_purpose(given: object) -> str:
    """Return the purpose of a file that somebody brings. Raises `CallerError`."""
    if given is None:
        raise required("purpose")
    if given not in PURPOSES:
        raise CallerError(f"'{str(given)[:100]}' is not one of {list(PURPOSES)} - 'purpose'", param="purpose")
    return str(given)


def required(name: str) -> CallerError:
    """Return the refusal of a form without something, in OpenAI's words."""
    return CallerError(f"'{name}' is a required property", param=name)


def kept_s(after: object, purpose: str) -> int:
    """Return for how many seconds a file is kept: what is asked for, else as OpenAI does. 0: for ever.

    Args:
        after: `expires_after`, or None.
        purpose: of the file.

    Raises:
        CallerError: what is asked for is no such thing.
    """
    if after is None:
        return _BATCH_S if purpose in {"batch", "batch_output"} else 0
    if not isinstance(after, dict):
        raise _wrong("expires_after", "expected an object", "invalid_type")
    for name in ("anchor", "seconds"):
        if after.get(name) is None:
            raise missing(f"expires_after.{name}")
    anchor, seconds = after["anchor"], after["seconds"]
    if anchor != "created_at":
        raise _wrong("expires_after.anchor", "expected 'created_at'", "invalid_value")
    if type(seconds) is not int:
        raise _wrong("expires_after.seconds", "expected an integer", "invalid_type")
    if seconds < _SHORTEST_S:
        raise _wrong(
            "expires_after.seconds",
            f"integer below minimum value. Expected a value >= {_SHORTEST_S}, but got {seconds} instead",
            "integer_below_min_value",
        )
    if seconds > _LONGEST_S:
        raise _wrong(
            "expires_after.seconds",
            f"integer above maximum value. Expected a value <= {_LONGEST_S}, but got {seconds} instead",
            "integer_above_max_value",
        )
    return seconds


def expiry(after: object, purpose: str, now: int) -> int:
    """Return when a file expires, in microseconds; 0: never. Raises `CallerError`."""
    seconds = kept_s(after, purpose)
    return now + seconds * _US if seconds else 0


def clean_name(given: str, param: str = "file") -> str:
    """Return what is kept of a file's name: its last part, of what can be seen of it.

    It never names anything here. It is for people and for their programs, so what could mislead them is left
    out: folders, control characters, marks that turn the direction of text.

    Raises:
        CallerError: it is longer than any.
    """
    if len(given) > _LONGEST_NAME:
        raise CallerError(
            f"Invalid '{param}': the name has {len(given):,} characters, and may have {_LONGEST_NAME}.",
            param=param,
            code="invalid_value",
        )
    last = given.replace("\\", "/").rstrip("/").rpartition("/")[2]
    seen = "".join(letter for letter in last if unicodedata.category(letter) not in _UNSEEN)
    return seen.strip() if seen.strip(" .") else "file"


def kind_of(filename: str, kind: str) -> str:
    """Return the media type of a file: what its user says, else what its name says."""
    if kind and kind != "application/octet-stream":
        return kind[:200] if kind.isascii() and kind.isprintable() else ""
    return _KNOWN_KINDS.get(filename.rpartition(".")[2].lower(), "")


def _wrong(param: str, why: str, code: str) -> CallerError:
    return CallerError(f"Invalid '{param}': {why}.", param=param, code=code)
