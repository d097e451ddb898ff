"""One supervisor per data folder: a lock that dies with its process."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Final

from headgate.stores.sql.pepper import DataFolderError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ENDING_S: Final = 5.0  # that a start waits for the workers of one that was killed,
_LOOKS_S: Final = 0.05  # and looks so often


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a data folder for this process.

    Raises:
        DataFolderError: another process has it; the message names it.
    """
    handle = os.open(folder / "serve.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _take(handle, folder)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _take(handle: int, folder: Path) -> None:
    """Take the lock; where its process was killed, once the workers that it has left have ended, too."""
    end = time.monotonic() + _ENDING_S
    while not try_lock(handle):
        number = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
        if not number.isdecimal() or _alive(int(number)):
            raise DataFolderError(
                f"{folder} is served by process {number}. Stop it, or choose another folder with --data."
            )
        if time.monotonic() > end:
            raise DataFolderError(
                f"{folder} was served by process {number}, which was killed; its workers still end their "
                "calls. Try again in a moment."
            )
        time.sleep(_LOOKS_S)


def holder(folder: Path) -> int | None:
    """Return the process that holds a data folder, or None; never in the way of one that starts.

    The lock itself is only tried when the process that left its number is alive, or may be.
    """
    path = folder / "serve.lock"
    try:
        number = int(path.read_text(encoding="ascii") or "0")
        if not number or not _alive(number):
            return None
        handle = os.open(path, os.O_RDWR)
    except (OSError, ValueError):
        return None
    try:
        return None if try_lock(handle) else number
    finally:
        os.close(handle)


def _alive(number: int) -> bool:
    if sys.platform == "win32":
        return True  # there, asking a process by signal 0 ends it
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def try_lock(handle: int) -> bool:
    """Take the lock of an open file, if nobody has it; it goes with the file, or with the process."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
