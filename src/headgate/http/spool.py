"""A long form on its way in: kept in a file that has no name, so that memory holds little of it."""

from __future__ import annotations

import mmap
import os
import tempfile
from io import FileIO
from typing import TYPE_CHECKING

from headgate.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path


class Spool:
    """Bytes that are appended, then read at any place. The file is gone when nobody refers to it.

    Args:
        folder: where the file is; None: where the system keeps temporary files.

    Raises:
        Unavailable: by every method; the file cannot be written.
    """

    __slots__ = ("_file", "_size")

    def __init__(self, folder: Path | None) -> None:
        try:
            with tempfile.TemporaryFile(dir=folder, buffering=0) as made:
                self._file = FileIO(os.dup(made.fileno()), "r+")
        except OSError as fault:
            raise _no_room(fault) from fault
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def extend(self, data: bytes) -> None:
        """Append bytes."""
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as fault:
            raise _no_room(fault) from fault
        self._size += len(data)

    def whole(self) -> mmap.mmap:
        """Return what was written; the system reads it from the file as it is looked at."""
        try:
            return mmap.mmap(self._file.fileno(), self._size, access=mmap.ACCESS_READ)
        except OSError as fault:
            raise _no_room(fault) from fault
        finally:
            self.close()

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def _no_room(fault: OSError) -> Unavailable:
    return Unavailable(
        f"The gateway cannot keep the files of this request now: {os.strerror(fault.errno or 0)}. "
        "Try again in a moment."
    )
