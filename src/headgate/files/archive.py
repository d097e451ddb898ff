"""What callers and batches ask about files."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from headgate.files.shelf import Shelf


class Archive(NamedTuple):
    """Who keeps files in one worker."""

    shelf: Shelf
