"""The members of a request on their way to a host: renamed, dropped, written as one object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.providers.stance import TUNING, leave_out, says_something
from headgate.values import Note

if TYPE_CHECKING:
    from headgate.values import Call, Target

_NULL = msgspec.Raw(b"null")
written = msgspec.json.Encoder().encode  # writes members as one object, their values as they came


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


def rename(call: Call, members: dict[str, msgspec.Raw], name: str, other: str) -> None:
    """Send a member under another name; the caller is told."""
    value = members.pop(name)
    if bytes(members.get(other, _NULL)) == b"null":  # null says nothing: the limit that was given holds
        members[other] = value
    call.notes.append(Note("x-headgate-renamed", f"{name}={other}"))
