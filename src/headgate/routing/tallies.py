"""What attempts at a place came to, beside those that were served: counted where something fails. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.vitals import FAULTS

if TYPE_CHECKING:
    from headgate.errors import UpstreamError
    from headgate.values import WallMicros
    from headgate.vitals import Sign

_FAULTS: Final = frozenset(FAULTS)


class Tally:
    """The counts of one place since the process began, or since the worker did that it succeeds."""

    __slots__ = ("errors", "first_byte_us", "last", "last_at", "panic_ns", "retries", "said", "served")

    def __init__(self) -> None:
        self.served = 0  # counted only where a provider has several keys
        self.first_byte_us = 0  # of all these together
        self.retries = 0
        self.errors: dict[str, int] = {}
        self.last = ""
        self.last_at: WallMicros = 0
        self.said = ""  # in full what went wrong on the way, for the log; what a provider said is not kept
        self.panic_ns = 0  # when it was last asked, or would have been, while it was out

    @property
    def failed(self) -> int:
        """Return how many attempts failed by the target's own fault."""
        return sum(count for kind, count in self.errors.items() if kind in _FAULTS)

    def count(self, error: UpstreamError, at: WallMicros) -> None:
        """Count an attempt that failed."""
        self.errors[error.kind] = self.errors.get(error.kind, 0) + 1
        self.last, self.last_at = error.kind, at
        self.said = error.in_full if error.place else ""

    def resume(self, sign: Sign) -> None:
        """Go on with what another worker has counted."""
        self.served += sign.served
        self.first_byte_us += sign.first_byte_us
        self.retries += sign.retries
        for kind, count in sign.errors.items():
            self.errors[kind] = self.errors.get(kind, 0) + count
        if sign.last_at > self.last_at:
            self.last, self.last_at = sign.last, sign.last_at
