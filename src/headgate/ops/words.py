"""What names, addresses, metadata and references may be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET

from headgate.errors import CallerError

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME: Final = 100
_PAIRS, _KEY, _VALUE = 16, 64, 512  # as OpenAI's metadata
_EMAIL: Final = re.compile(r"[^\s@<>\"(),:;\[\]\\]{1,64}@[a-z0-9-]+(\.[a-z0-9-]+)+").fullmatch


def given(change: msgspec.Struct) -> dict[str, Any]:
    """Return the members of a change that were given."""
    return {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}


def check_name(name: str, param: str = "name", *, empty: bool = False) -> str:
    """Return a name without white space around it.

    Raises:
        CallerError: it is too long, or not printable.
    """
    name = name.strip()
    if (not name and not empty) or len(name) > _NAME or not name.isprintable():
        raise CallerError(f"{param} has {0 if empty else 1} to {_NAME} printable characters.", param=param)
    return name


def check_email(email: str) -> str:
    """Return an address as it is stored: in lower case.

    Raises:
        CallerError: it is none.
    """
    email = email.strip().lower()
    if len(email) > 254 or not email.isprintable() or _EMAIL(email) is None:
        raise CallerError(f"{email[:100]!r} is no e-mail address.", param="email")
    return email


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Check what callers note on things of theirs.

    Raises:
        CallerError: too many pairs, or too long ones.
    """
    if len(metadata) > _PAIRS:
        raise CallerError(f"metadata has at most {_PAIRS} pairs.", param="metadata")
    for key, value in metadata.items():
        if not 1 <= len(key) <= _KEY or len(value) > _VALUE:
            raise CallerError(
                f"A key of metadata has 1 to {_KEY} characters, a value at most {_VALUE}.",
                param=f"metadata.{key[:_KEY]}",
            )
