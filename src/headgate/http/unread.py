"""Refusals of calls that nobody looks at, under overload."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.http.heads import CONTINUE

if TYPE_CHECKING:
    from headgate.identity.keys import Keyring
    from headgate.values import MonotonicNs, Operation, Principal


class Unread(NamedTuple):
    """The refusal of calls with a known head: worked out once, for all connections that wait for it.

    To a connection whose call waits unread, to be begun or to be refused, it is the answer in progress.
    """

    keyring: Keyring  # the key was found in
    principal: Principal
    operation: Operation
    lines: bytes  # of the answer's head: those that all refusals of the key have

    def leave(self) -> None:
        """Do nothing: no call hears that its caller has gone."""

    def tell(self) -> None:
        """Do nothing, for the same reason."""

    def check(self, _now: MonotonicNs, _heartbeat_ns: MonotonicNs) -> None:
        """Do nothing: it is given soon."""

    def probe(self) -> bytes:
        """Return bytes that mean nothing to a caller and show whether it is still there."""
        return CONTINUE
