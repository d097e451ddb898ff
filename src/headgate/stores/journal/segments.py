"""The files of a journal: their names, preallocation, durability, and what of it a platform has."""

from __future__ import annotations

import errno
import mmap
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPARE: Final = "spare"
DAMAGED: Final = ".damaged"
_NAME: Final = re.compile(r"\d{10}\.log")
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)  # Windows
# What says that the disk is full: space may return, unlike a disk that fails.
FULL: Final = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})

_WINDOW: Final = 256 << 10  # bytes that are mapped at once
_BLOCK: Final = 512  # in which the system counts what a file has of the disk
_MOUNTS: Final = Path("/proc/self/mountinfo")
# File systems in which what is stored goes where the file was preallocated. Others look for room then, and
# end the process where there is none.
_MAPPED: Final = frozenset({"ext4", "xfs", "tmpfs"})


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


class Segment:
    """A preallocated file that one thread writes, and another may sync.

    It is written through a mapping of a part of it, where its file system allows that: what is stored there
    is in the operating system's hands, as after a `write`, and no call of it was needed.

    `write` puts bytes behind those that were written before, as far as `reach`; behind that comes `advance`.
    It raises `OSError` where they could not be written.
    """

    __slots__ = ("_mapped", "_offset", "_window", "fd", "reach", "size", "write")
    _window: mmap.mmap
    write: Callable[[bytes], object]

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | _BINARY)
        found = os.fstat(self.fd)
        self.size = found.st_size
        self._mapped = _file_system(found.st_dev) in _MAPPED and found.st_blocks * _BLOCK >= self.size
        self._offset = self.reach = 0
        self.write = _closed

    def begin(self, head: bytes) -> None:
        """Write what it begins with.

        Raises:
            OSError: it could not be written.
        """
        self.advance(0, len(head))
        self.write(head)

    def advance(self, offset: int, size: int) -> None:
        """Let `write` go on at an offset, and reach so many bytes at least, which the file has.

        Raises:
            OSError: it is closed, or cannot be mapped.
        """
        if not self.open:
            _closed()
        if not self._mapped:
            self._offset, self.reach, self.write = offset, self.size, self._write_at
            return
        begin = offset - offset % mmap.ALLOCATIONGRANULARITY
        length = min(max(_WINDOW, offset + size - begin), self.size - begin)
        window = self._window = mmap.mmap(self.fd, length, offset=begin)
        window.seek(offset - begin)
        self.reach, self.write = begin + length, window.write

    def _write_at(self, data: bytes) -> None:
        if write_at(self.fd, data, self._offset) != len(data):
            raise OSError(errno.ENOSPC, "the disk is full")
        self._offset += len(data)

    @property
    def open(self) -> bool:
        """Say whether it was not closed."""
        return self.fd >= 0

    def close(self, size: int | None = None) -> None:
        """Close it, and cut off what is behind a size; what was written is not synced by this."""
        if self._mapped and self.reach:
            self._window.close()
        if size is not None:
            os.ftruncate(self.fd, size)
        os.close(self.fd)
        self.reach, self.write, self.fd = 0, _closed, -1


def _closed(_data: bytes = b"") -> NoReturn:
    raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _file_system(device: int) -> str:
    """Return the type of the file system that a file is in, by the number of its device; empty: not known."""
    name = f"{os.major(device)}:{os.minor(device)}" if hasattr(os, "major") else ""
    return next((kind for number, kind in _mounted() if number == name), "")


def _mounted() -> Iterator[tuple[str, str]]:
    """Yield the device and the type of each file system that is mounted; see proc(5)."""
    with suppress(OSError):
        for line in _MOUNTS.read_text(errors="replace").splitlines():
            fields, _, rest = line.partition(" - ")
            yield fields.split(" ")[2], rest.partition(" ")[0]


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
