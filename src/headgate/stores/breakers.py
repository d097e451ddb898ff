"""What the workers of a node know together of their breakers: memory that all share, and a lock.

The memory is that of the process that forks the workers (no file, since on a full disk a page of one kills
its writer); the lock is that of a file, which the kernel gives back for who dies. Nobody waits for it long: a
worker that was stopped while it had it costs the others what they share, and no time.
"""

from __future__ import annotations

import mmap
import os
import sys
from contextlib import contextmanager
from struct import Struct
from time import sleep
from typing import TYPE_CHECKING, Final

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headgate.routing.health import Place

_ROWS: Final = 512  # targets that ever failed
_NAME: Final = 168  # bytes; a longer name is not shared
_FACTS: Final = 9  # of a breaker; the last one is which worker probes
_ROW: Final = Struct(f"<{_NAME}s{_FACTS}q")
_FIRST: Final = 64  # bytes before the rows: the version, and how many there are
_HEAD: Final = Struct("<qq")
_VERSION: Final = Struct("<q")
_NO_ROOM: Final = -1
_TRIES: Final = 20
_PAUSE_S: Final = 0.0001
_seen: Final[dict[Path, mmap.mmap]] = {}  # by folder, of this process and those forked from it


def prepare(folder: Path) -> None:
    """Make the memory for the workers that are forked after this; what was known before is forgotten."""
    _seen[folder.resolve()] = _new()


class SharedBreakers:
    """The breakers of one node's workers, as one of them sees them. Implements `routing.health.Shared`.

    Args:
        folder: where the lock is; workers with the same one share.
        slot: of this worker. What it was probing when it died is free again.
    """

    def __init__(self, folder: Path, slot: int) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        place = folder.resolve()
        self._memory = _seen.setdefault(place, _seen.get(place) or _new())
        self._lock = os.open(folder / "breakers.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._own = slot + 1
        self._rows: dict[Place, int] = {}
        with self._locked() as locked:
            for row in range(self._count if locked else 0):
                name, facts = self._read(row)
                if facts[-1] == self._own:
                    self._write(row, name, [*facts[:5], 0, *facts[6:8], 0])

    @property
    def version(self) -> int:
        """Return a number that changes with what is known."""
        return int(_VERSION.unpack_from(self._memory)[0])

    def get(self, place: Place) -> tuple[int, ...] | None:
        """Return what is known of a place, without its lock; None: nothing."""
        row = self._find(place)
        if row is None or row == _NO_ROOM:
            return None
        *facts, prober = self._read(row)[1]
        return (*facts, int(prober not in {0, self._own}))

    def known(self) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
        """Return what is known of all places."""
        for row in range(self._count):
            name, facts = self._read(row)
            names = name.rstrip(b"\0").decode().split("\x1f")
            yield tuple(names), (*facts[:-1], int(facts[-1] not in {0, self._own}))

    @contextmanager
    def edit(self, place: Place) -> Iterator[list[int] | None]:
        """Let a worker change what is known of a place, alone; None: not now, or there is no room for it.

        The last fact says whether another worker probes.
        """
        with self._locked() as locked:
            row = self._take(place) if locked else None
            if row is None:
                yield None
                return
            name, before = self._read(row)
            facts = [*before[:-1], int(before[-1] not in {0, self._own})]
            yield facts
            after = [*facts[:-1], (before[-1] if facts[-1] else self._own) * (facts[5] > 0)]
            if after != before:
                self._write(row, name, after)

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._lock)

    # ── rows ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def _count(self) -> int:
        return int(_HEAD.unpack_from(self._memory)[1])

    def _read(self, row: int) -> tuple[bytes, list[int]]:
        name, *facts = _ROW.unpack_from(self._memory, _FIRST + row * _ROW.size)
        return name, facts

    def _write(self, row: int, name: bytes, facts: list[int]) -> None:
        _ROW.pack_into(self._memory, _FIRST + row * _ROW.size, name, *facts)
        _VERSION.pack_into(self._memory, 0, self.version + 1)

    def _find(self, place: Place) -> int | None:
        row = self._rows.get(place)
        if row is None:
            name, count = _name(place), self._count
            found = (index for index in range(count) if self._read(index)[0] == name)
            row = next(found, _NO_ROOM if count == _ROWS or len(name) > _NAME else None)
            if row is not None:
                self._rows[place] = row
        return row

    def _take(self, place: Place) -> int | None:
        """Return the row of a place, a new one if need be; None: there is no room."""
        row = self._find(place)
        if row is None:
            row = self._rows[place] = self._count
            _ROW.pack_into(self._memory, _FIRST + row * _ROW.size, _name(place), *[0] * _FACTS)
            _HEAD.pack_into(self._memory, 0, self.version, row + 1)
        return None if row == _NO_ROOM else row

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Have the lock, if it can be had at once."""
        for _ in range(_TRIES):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                sleep(_PAUSE_S)
                continue
            try:
                yield True
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
            return
        yield False


def _name(place: Place) -> bytes:
    return "\x1f".join(place).encode().ljust(_NAME, b"\0")


def _new() -> mmap.mmap:
    return mmap.mmap(-1, _FIRST + _ROWS * _ROW.size)
