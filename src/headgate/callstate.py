"""What the objects of one call have in common: its request, its answer, its connection's turn, its books."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


class CallState(msgspec.Struct, eq=False):
    """Something that one call has and changes. Each call makes a dozen, so C code makes them.

    That takes a fifth of the time of an `__init__`. Each is equal to itself alone, and shows nothing of what
    is in it: requests and keys belong into no log.
    """

    def __repr__(self) -> str:
        """Name its kind."""
        return f"<{type(self).__name__}>"


def set_at_once(kind: type[T]) -> type[T]:
    """Have the attributes of a kind of struct set as those of any class with slots, in half the time.

    The interpreter does not specialise msgspec's own way, which lets the collector look at an object once
    something is set that may be part of a cycle. Here that is known when the object is made, or never.
    """
    type.__setattr__(kind, "__setattr__", object.__setattr__)
    type.__setattr__(kind, "__delattr__", object.__delattr__)  # the same slot of the type
    return kind
