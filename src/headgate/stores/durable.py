"""Small files that are written once: there whole and on the disk, or not at all. Standard library only."""

from __future__ import annotations

import errno
import os
import secrets
from typing import TYPE_CHECKING, Final

from headgate.stores.journal.segments import sync_folder

if TYPE_CHECKING:
    from pathlib import Path

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})


def write_once(path: Path, content: bytes) -> None:
    """Write a file for its owner alone; it is on the disk under its name when this returns.

    Raises:
        FileExistsError: there is one already.
        OSError: it cannot be written; then there is none.
    """
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(file, content)
            os.fsync(file)
        finally:
            os.close(file)
        _name(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)


def _name(fresh: Path, path: Path) -> None:
    """Give a file its name, unless another one has it: of many that try at once, one succeeds."""
    try:
        os.link(fresh, path)
    except OSError as fault:
        if fault.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from fault
        fresh.rename(path)
