"""The thread that makes a journal durable, in groups, and keeps its next segment ready.

It sleeps on a lock while nothing is written: an idle gateway does no work here.
"""

from __future__ import annotations

import threading
from typing import Protocol

from headgate.stores.journal.bell import Bell

_LOOK_FOR_SPACE_S = 1.0


class Syncable(Protocol):
    """What the thread works on; each method may be called in it."""

    @property
    def wants_space(self) -> bool:
        """Say whether there was no space for a segment."""
        ...

    def make_durable(self) -> None:
        """Put everything written so far on the disk."""
        ...

    def prepare_spare(self) -> None:
        """Make the next segment ready."""
        ...


class Syncer:
    """Call a journal's `make_durable` after each first write, `group_s` later."""

    __slots__ = ("_group_s", "_hurry", "_journal", "_kick", "_stopping", "_thread")

    def __init__(self, journal: Syncable, group_s: float) -> None:
        self._journal = journal
        self._group_s = group_s
        self._kick, self._hurry = Bell(), Bell()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that there is something to do. From any thread."""
        self._kick.ring()

    def hurry(self) -> None:
        """Do it now. From any thread."""
        self._hurry.ring()
        self._kick.ring()

    def stop(self) -> None:
        """Do what is left, then end the thread."""
        self._stopping = True
        self.hurry()
        self._thread.join()

    def _run(self) -> None:
        journal = self._journal
        journal.prepare_spare()
        while not self._stopping:
            if self._kick.wait(_LOOK_FOR_SPACE_S if journal.wants_space else -1):
                self._hurry.wait(self._group_s)
                journal.make_durable()
            journal.prepare_spare()
        journal.make_durable()
