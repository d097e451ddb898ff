"""Blobs in a folder, of this machine or a shared one: a file each, readable by its owner alone."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from headgate.errors import StorageFull, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from headgate.wire.forms import Buffer

_SLICE: Final = 256 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
Result = TypeVar("Result")
Given = ParamSpec("Given")


class FolderBlobs:
    """The blobs of one folder. All that waits for the disk is done in threads.

    Args:
        folder: made when the first blob is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def begin(self, name: str) -> _Writer:
        """Begin to write a blob. Raises `Unavailable`."""
        path = self._path(name)
        made = asyncio.ensure_future(_done(_create, path))
        try:
            return _Writer(path, await asyncio.shield(made))
        except asyncio.CancelledError:
            made.add_done_callback(_unwanted)  # a thread goes on although nobody waits for it
            raise

    async def read(self, name: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Return bytes of a blob. Raises `Unavailable`: it cannot be read, or is shorter than it was."""
        file = _opened(self._path(name))
        try:
            while start < end:
                data = await _done(_read, file, start, min(_SLICE, end - start))
                yield data
                start += len(data)
        finally:
            os.close(file)

    async def remove(self, name: str) -> None:
        """Remove a blob. Raises `Unavailable`."""
        await _done(partial(self._path(name).unlink, missing_ok=True))

    async def close(self) -> None:
        """Nothing is open."""

    def _path(self, name: str) -> Path:
        assert name.isalnum()
        return self._folder / name[:2] / name


class _Writer:
    """Threads outlive who waits for them: so that none writes into a file that is closed, there is a lock."""

    def __init__(self, path: Path, file: int) -> None:
        self._path = path
        self._file = file
        self._lock = threading.Lock()

    async def write(self, data: Buffer) -> None:
        """Append bytes. Raises `Unavailable`."""
        await _done(self._write, data)

    async def commit(self) -> None:
        """Write it to the disk, with its name. Raises `Unavailable`."""
        await _done(self._commit)

    async def abort(self) -> None:
        """Remove it. Raises `Unavailable`."""
        await _done(self._abort)

    # ── in a thread ──────────────────────────────────────────────────────────────────────────────

    def _write(self, data: Buffer) -> None:
        left = memoryview(data)
        with self._lock:
            while left:
                left = left[os.write(self._opened(), left) :]

    def _commit(self) -> None:
        with self._lock:
            os.fsync(self._opened())
            _sync_folder(self._path.parent)
            self._close()

    def _abort(self) -> None:
        with self._lock:
            if self._file >= 0:
                self._close()
                self._path.unlink(missing_ok=True)

    def _opened(self) -> int:
        if self._file < 0:
            raise OSError(errno.EBADF, "closed")
        return self._file

    def _close(self) -> None:
        file, self._file = self._file, -1
        os.close(file)


def _create(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _unwanted(made: asyncio.Future[int]) -> None:
    """Close a file that was made for nobody; its blob is removed by whoever sweeps."""
    if not made.cancelled() and made.exception() is None:
        os.close(made.result())


def _read(file: int, start: int, most: int) -> bytes:
    data = os.pread(file, most, start)
    if not data:
        raise OSError(errno.EIO, "shorter than it was")
    return data


def _sync_folder(folder: Path) -> None:
    with suppress(PermissionError):  # Windows does not open folders
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as fault:
        raise _trouble(fault) from fault


def _trouble(fault: OSError) -> Unavailable:
    """Return what is said of a fault of the disk; it names no path."""
    if fault.errno in _FULL:
        return StorageFull(
            "The storage of files has no room left. Delete files that are no longer needed, or ask who runs "
            "this gateway."
        )
    said = os.strerror(fault.errno or 0)
    return Unavailable(f"The storage of files does not answer: {said}. Try again in a moment.")


async def _done(work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """Do something with the disk in a thread.

    Raises:
        StorageFull: there is no room.
        Unavailable: it failed.
    """
    try:
        return await asyncio.to_thread(work, *args, **kwargs)
    except OSError as fault:
        raise _trouble(fault) from fault
