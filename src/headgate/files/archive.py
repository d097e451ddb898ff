"""Who keeps files in one worker, and removes what is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from headgate.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.files.inlining import Inlining
    from headgate.files.shelf import Shelf
    from headgate.files.uploads import Uploads

_SWEEP_S: Final = 5.0


class Archive:
    """The files and uploads of one worker.

    Args:
        shelf: who keeps files.
        uploads: who puts them together.
        inlining: who puts them into requests that name them.
        trouble: told what was wrong when nobody waits for it.
    """

    def __init__(
        self, shelf: Shelf, uploads: Uploads, inlining: Inlining, trouble: Callable[[str], None]
    ) -> None:
        self.shelf = shelf
        self.uploads = uploads
        self.inlining = inlining
        self._trouble = trouble

    async def run(self) -> None:
        """Remove what is over, for as long as the process serves."""
        while True:
            try:
                await self.uploads.expire()
                await self.shelf.sweep()
            except Unavailable as fault:
                self._trouble(fault.message)
            await asyncio.sleep(_SWEEP_S)
