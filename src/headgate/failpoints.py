"""Named places in real code where a test may kill the process, raise, or wait. Off in production."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.ports import Failpoints

NAMES = (
    "after-auth",
    "after-hold",
    "before-connect",
    "after-open",
    "after-send",
    "after-head",
    "first-frame",
    "mid-stream",
    "before-settle",
    "after-settle",
    "before-last-byte",
    "drain-before-commit",
    "drain-after-commit",
)


class NoFailpoints:
    """What production has."""

    __slots__ = ()

    def hit(self, name: str) -> None:
        """Do nothing."""


class FailpointFault(RuntimeError):
    """Raised by an armed place."""


class ArmedFailpoints:
    """Act at one place, once.

    Args:
        spec: `PLACE=ACTION@N`: at the N-th passage `kill` the process, `raise`, or be `slow` (1 s).

    Raises:
        ValueError: no such place or action.
    """

    __slots__ = ("_action", "_left", "_name")

    def __init__(self, spec: str) -> None:
        self._name, _, action = spec.partition("=")
        self._action, _, count = action.partition("@")
        self._left = int(count or 1)
        if self._name not in NAMES or self._action not in {"kill", "raise", "slow"}:
            raise ValueError(f"HEADGATE_FAILPOINTS {spec!r} is not PLACE=kill|raise|slow@N; places: {NAMES}")

    def hit(self, name: str) -> None:
        """Act when this is the place and the time has come."""
        if name != self._name:
            return
        self._left -= 1
        if self._left != 0:
            return
        if self._action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._action == "raise":
            raise FailpointFault(name)
        time.sleep(1)


def failpoints_of(spec: str) -> Failpoints:
    """Return what a setting asks for."""
    return ArmedFailpoints(spec) if spec else NoFailpoints()
