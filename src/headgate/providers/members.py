"""The members of a request on their way to a host: renamed, dropped, written as one object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.providers.stance import TUNING, leave_out, says_something
from headgate.values import Note
from headgate.wire.requests import MEMBERS

if TYPE_CHECKING:
    from headgate.values import Call, Target

_encode = msgspec.json.encode
_NULL = msgspec.Raw(b"null")
_KEYS = {name: b',"%b":' % name.encode() for checks in MEMBERS.values() for name in checks}


def adapt(call: Call, target: Target, members: dict[str, msgspec.Raw]) -> None:
    """Rename and drop the members that a host knows otherwise, or not at all; the caller is told.

    Raises:
        CallerError: one must not be left out, by the policy of `stance`.
    """
    host = target.host
    for name, other in host.renames.items():
        if name in members:
            rename(call, members, name, other)
    for name in host.drops:
        raw = members.pop(name, None)
        if raw is not None and says_something(name, raw):
            leave_out(call, target, name, tuning=name in TUNING)


def written(members: dict[str, msgspec.Raw]) -> bytes:
    """Write the members as one object; their values are copied once, into it."""
    parts: list[bytes | msgspec.Raw] = []
    for name, raw in members.items():
        parts += (_KEYS.get(name) or _key(name), raw)
    parts[0] = b"{" + bytes(parts[0])[1:]
    parts.append(b"}")
    return b"".join(parts)


def _key(name: str) -> bytes:
    """Return a member's name as it stands between two members."""
    return b"," + _encode(name) + b":"


def rename(call: Call, members: dict[str, msgspec.Raw], name: str, other: str) -> None:
    """Send a member under another name; the caller is told."""
    value = members.pop(name)
    if bytes(members.get(other, _NULL)) == b"null":  # null says nothing: the limit that was given holds
        members[other] = value
    call.notes.append(Note("x-headgate-renamed", f"{name}={other}"))
