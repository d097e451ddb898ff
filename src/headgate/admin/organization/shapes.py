"""What OpenAI's admin API has in common: names, lifetimes, roles, instants in seconds.

Source: the types under `openai.types.admin.organization` of openai-python 3.54.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from headgate.values import WallMicros

Name = Annotated[str, Meta(min_length=1, max_length=100)]
Lifetime = Annotated[int, Meta(ge=1, le=2**31 - 1)]  # seconds
ProjectRole = Literal["owner", "member"]


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """What has been removed, as OpenAI says it."""

    id: str
    object: str
    deleted: Literal[True] = True


def seconds(at: WallMicros) -> int:
    """Return an instant as OpenAI has it."""
    return at // 1_000_000


def maybe(at: WallMicros) -> int | None:
    """Return an instant as OpenAI has it, or null where it never was or will be."""
    return seconds(at) if at else None
