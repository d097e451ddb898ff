"""Named places where a test may kill, raise or wait: the real code passes them, tests arm them.

A specification is a comma-separated list of `place=action[:seconds][@passage]`:

    after-open=kill@3        the third time that `after-open` is passed, the process kills itself
    mid-stream=slow:0.05     each time, wait 50 ms
    before-settle=raise@1    once, raise `FailpointHit`
    after-send=hang          wait for ever (until killed)

Without `@passage` the action happens every time.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.ports import Failpoints

ON_CALLS: Final = (
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
    "rotate",
    "drain-before-commit",
    "drain-after-commit",
)
ON_BATCHES: Final = (
    "batch-read",
    "batch-begun",
    "batch-claimed",
    "batch-before-output",
    "batch-after-output",
    "batch-file-written",
    "batch-published",
)
ON_PASSED: Final = ("batch-intended", "batch-passed", "batch-fetched", "batch-cleared")  # at their providers
# Lines of batches that order videos.
ON_VIDEOS: Final = ("video-ordered", "video-kept", "video-opened", "video-settled", "video-ended")
NAMES: Final = (
    *(*ON_CALLS, *ON_BATCHES, *ON_PASSED, *ON_VIDEOS),
    *("both-open", "one-won", "expiry-before-commit", "expiry-after-commit"),
)
ACTIONS: Final = ("kill", "raise", "hang", "slow")
DEFAULT_SLOW_S = 0.1


class FailpointHit(Exception):
    """What the action `raise` raises."""


class NoFailpoints:
    """Production: every place is passed without a thought."""

    __slots__ = ("hit",)

    def __init__(self) -> None:
        self.hit: Callable[[str], None] = dict[str, None]().get  # nothing for any name, and no frame for it


@dataclass(frozen=True, slots=True)
class Trap:
    """What happens at one place, and at which passage (0: at each)."""

    action: str
    at: int = 0
    seconds: float = DEFAULT_SLOW_S


class ArmedFailpoints:
    """Failpoints armed by a specification.

    Raises:
        ValueError: the specification names an unknown place or action.
    """

    __slots__ = ("_lock", "_passed", "_traps")

    def __init__(self, spec: str) -> None:
        self._traps = parse(spec)
        self._passed = dict.fromkeys(self._traps, 0)
        self._lock = threading.Lock()  # the drain passes its places in a thread of its own

    def hit(self, name: str) -> None:
        """Do what was asked for at this place.

        Raises:
            FailpointHit: the action is `raise`.
        """
        trap = self._traps.get(name)
        if trap is None:
            return
        with self._lock:
            self._passed[name] += 1
            due = trap.at in {0, self._passed[name]}
        if due:
            _act(name, trap)


def failpoints_of(spec: str) -> Failpoints:
    """Return the failpoints of a specification; those of production when it is empty."""
    return ArmedFailpoints(spec) if spec else NoFailpoints()


def parse(spec: str) -> dict[str, Trap]:
    """Return the trap of each named place.

    Raises:
        ValueError: naming what is wrong and what is known.
    """
    traps = {}
    for item in filter(None, (part.strip() for part in spec.split(","))):
        name, _, rest = item.partition("=")
        rest, _, passage = rest.partition("@")
        action, _, seconds = rest.partition(":")
        if name not in NAMES:
            raise ValueError(f"unknown failpoint {name!r}: one of {', '.join(NAMES)}")
        if action not in ACTIONS:
            raise ValueError(f"unknown action {action!r} at {name!r}: one of {', '.join(ACTIONS)}")
        traps[name] = Trap(action, int(passage or 0), float(seconds or DEFAULT_SLOW_S))
    return traps


def _act(name: str, trap: Trap) -> None:
    if trap.action == "raise":
        raise FailpointHit(name)
    if trap.action == "kill":
        # Windows has no SIGKILL; there os.kill ends the process at once whatever the signal.
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    if trap.action == "slow":
        time.sleep(trap.seconds)
    while trap.action in {"hang", "kill"}:  # a kill is on its way
        time.sleep(3600.0)
