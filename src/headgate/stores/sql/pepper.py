"""The pepper: the secret that stored digests of keys are made with, in a file beside the database.

A stolen database alone cannot even be tested against a leaked key. The database keeps the pepper's
fingerprint, so a wrong or a lost pepper is noticed at once instead of refusing every key.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from headgate.stores.durable import write_once

if TYPE_CHECKING:
    from pathlib import Path

FILE = "pepper"
_BYTES = 32


class DataFolderError(Exception):
    """A data folder that cannot be used: says why and what to do."""


def fingerprint(pepper: bytes) -> str:
    """Return what the database keeps of a pepper; says nothing of the pepper itself."""
    return hashlib.sha256(b"headgate pepper fingerprint\0" + pepper).hexdigest()[:16]


def read_pepper(folder: Path) -> bytes | None:
    """Return the pepper of a data folder, or None where there is no file.

    Raises:
        DataFolderError: the file cannot be read or is not a pepper.
    """
    path = folder / FILE
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as fault:
        raise DataFolderError(f"Cannot read the pepper {path}: {fault}.") from fault
    try:
        pepper = bytes.fromhex(text)
    except ValueError:
        pepper = b""
    if len(pepper) != _BYTES:
        raise DataFolderError(f"{path} is not a pepper (64 hex digits). Restore it from your backup.")
    return pepper


def make_pepper(folder: Path) -> bytes:
    """Write a new pepper, readable by its owner alone; durable when this returns.

    Raises:
        FileExistsError: there is one already.
    """
    pepper = secrets.token_bytes(_BYTES)
    write_once(folder / FILE, pepper.hex().encode() + b"\n")
    return pepper


def check_pepper(folder: Path, expected: str) -> bytes:
    """Return the pepper of a folder whose database knows its fingerprint.

    Raises:
        DataFolderError: it is missing, or another one.
    """
    pepper = read_pepper(folder)
    if pepper is None:
        raise DataFolderError(
            f"The pepper {folder / FILE} is missing; without it no key of this database can be checked. "
            "Restore it from your backup, or copy it from another machine that serves the database. If it is "
            "lost, every key is lost with it: start with a new --data folder."
        )
    if fingerprint(pepper) != expected:
        raise DataFolderError(
            f"The pepper {folder / FILE} is not the one that this database was made with. Restore the right "
            "one from your backup."
        )
    return pepper
