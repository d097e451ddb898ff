"""Which database a data folder belongs to: noted in the folder, since its journals are booked there alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from headgate.program import without_password
from headgate.stores.sql.database import FILE as SQLITE, folder_of, shown, url_of
from headgate.stores.sql.pepper import DataFolderError

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.stores.sql.database import Place

FILE: Final = "database"


def noted(folder: Path) -> str:
    """Return the address, without its password, of the PostgreSQL database of a folder; empty: SQLite.

    Raises:
        DataFolderError: it cannot be read.
    """
    path = folder / FILE
    try:
        return path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):  # who makes the folder will say so
        return ""
    except (OSError, UnicodeDecodeError) as fault:
        raise DataFolderError(f"Cannot read {path}: {fault}.") from fault


def check_place(place: Place) -> None:
    """Refuse a folder whose books are elsewhere: its journals would be booked twice, or where nobody looks.

    Raises:
        DataFolderError: says where they are.
    """
    folder, url = folder_of(place), url_of(place)
    known = noted(folder)
    if known and not url:
        raise DataFolderError(
            f"The books of {folder} are in {known}: name that database with --database, HEADGATE_DATABASE or "
            "[storage] database, or use another --data folder."
        )
    if url and not known and (folder / SQLITE).exists():
        raise DataFolderError(
            f"The books of {folder} are in {folder / SQLITE}, not in {shown(place)}. Use another --data "
            "folder with that database, or leave the database away."
        )


def note(place: Place) -> None:
    """Note the database of a folder, once both are known to belong together."""
    folder, url = folder_of(place), without_password(url_of(place))
    if not url or noted(folder) == url:
        return
    new = folder / f"{FILE}.new"
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(file, f"{url}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
    new.replace(folder / FILE)
