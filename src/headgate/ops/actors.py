"""Who does something, and what they may do."""

from __future__ import annotations

from typing import Final

import msgspec

from headgate.errors import PermissionRefused


class Actor(msgspec.Struct, frozen=True):
    """Who does something. `id` is written as the origin of what they make."""

    id: str
    owner: bool = False  # may do everything


# Whoever can read the pepper and the database owns them: the file system has authorised them.
LOCAL: Final = Actor("local", owner=True)


def authorise(actor: Actor, deed: str) -> None:
    """Let an owner pass.

    Raises:
        PermissionRefused: anyone else.
    """
    if not actor.owner:
        raise PermissionRefused(f"{actor.id} may not {deed}. Ask an owner of the gateway.")
