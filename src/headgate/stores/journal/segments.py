"""The files of a journal: their names, preallocation, durability, and what of it a platform has."""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

SPARE: Final = "spare"
DAMAGED: Final = ".damaged"
_NAME: Final = re.compile(r"\d{10}\.log")
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)  # Windows
# What says that the disk is full: space may return, unlike a disk that fails.
FULL: Final = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


class Position(NamedTuple):
    """A place in a journal: behind it nothing is known, before it everything is."""

    segment: int
    offset: int


START: Final = Position(0, 0)


def segment_path(folder: Path, number: int) -> Path:
    """Return the path of a segment."""
    return folder / f"{number:010d}.log"


def segment_numbers(folder: Path) -> list[int]:
    """Return the numbers of the segments in a folder, ascending."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(name[:10]) for name in names if _NAME.fullmatch(name))


def slot_folders(data: Path) -> list[Path]:
    """Return the folder of every slot that ever wrote in a data folder."""
    return sorted(path for path in (data / "journal").glob("slot-*") if path.is_dir())


def make_folder(folder: Path) -> None:
    """Make the folder of a slot, if it is not there; on the disk when this returns."""
    if folder.exists():
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    sync_folder(folder.parent)
    sync_folder(folder.parent.parent)


def preallocate(path: Path, size: int) -> None:
    """Make a file of zeros whose blocks are taken from the disk now.

    Raises:
        OSError: the disk is full; the file is gone again.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | _BINARY, 0o600)
    try:
        _reserve(fd, size)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(fd)


def _reserve(fd: int, size: int) -> None:
    fallocate = getattr(os, "posix_fallocate", None)
    if fallocate is not None:
        try:
            fallocate(fd, 0, size)
        except OSError as fault:
            if fault.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise
        else:
            return
    os.ftruncate(fd, size)


def open_segment(path: Path) -> int:
    """Open a segment for reading and writing; return its descriptor."""
    return os.open(path, os.O_RDWR | _BINARY)


def sync_data(fd: int) -> None:
    """Put a file's data on the disk."""
    getattr(os, "fdatasync", os.fsync)(fd)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk, where a platform can."""
    if os.name == "nt":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_at_seek(fd: int, data: bytes, offset: int) -> int:
    os.lseek(fd, offset, os.SEEK_SET)
    return os.write(fd, data)


write_at = getattr(os, "pwrite", _write_at_seek)  # a segment has one writer, so seeking is safe


def read_segment(path: Path, offset: int = 0, size: int = -1) -> bytes | None:
    """Return the bytes of a segment; None when the file is gone."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except FileNotFoundError:
        return None


def remove_before(folder: Path, number: int) -> None:
    """Remove the segments below a number."""
    for found in segment_numbers(folder):
        if found < number:
            with suppress(FileNotFoundError):
                segment_path(folder, found).unlink()
