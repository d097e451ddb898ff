"""What is left of a provider's limits, as its answers tell it."""

from __future__ import annotations

from typing import NamedTuple


class Left(NamedTuple):
    """What a provider says is left of one of its limits."""

    limit: int
    left: int
    reset_ns: int  # until all of it is back


class Told(NamedTuple):
    """What a provider's answer says of its limits; None: nothing."""

    requests: Left | None = None
    tokens: Left | None = None
