"""What keeps files: put together when somebody asks for the first one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headgate.stores.sql.database import connect
from headgate.stores.sql.nodes import slot_name

if TYPE_CHECKING:
    from headgate.background import Background
    from headgate.config import Config
    from headgate.files.archive import Archive
    from headgate.observe.log import Log
    from headgate.ports import Clock
    from headgate.stores.sql.files import SqlFiles

_GB: Final = 1_000_000_000
_GIB: Final = 1 << 30


class Cabinet:
    """Who keeps files, in one worker.

    Args:
        config: the settings.
        clock: wall time.
        slot: of this worker.
        log: told what went wrong when nobody waited for it.
    """

    __slots__ = ("_archive", "_clock", "_config", "_log", "_rows", "_slot")

    def __init__(self, config: Config, clock: Clock, slot: int, log: Log) -> None:
        self._config = config
        self._clock = clock
        self._slot = slot
        self._log = log
        self._archive: Archive | None = None
        self._rows: SqlFiles | None = None

    def archive(self, background: Background, node: str) -> Archive:
        """Return who keeps files; what is over is removed from now on.

        Args:
            background: who runs what removes it.
            node: that the data folder is, on a database that it shares.
        """
        if self._archive is None:
            from headgate.files.archive import Archive
            from headgate.files.shelf import Shelf
            from headgate.files.uploads import Uploads
            from headgate.stores.blobs.folder import FolderBlobs
            from headgate.stores.sql.files import Room, SqlFiles
            from headgate.stores.sql.uploads import SqlUploads

            settings, data = self._config.files, Path(self._config.storage.data)
            room = Room(int(settings.project_gb * _GB), int(settings.account_gb * _GB))
            self._rows = SqlFiles(partial(connect, data), room, slot_name(node, f"slot-{self._slot}"))
            blobs = FolderBlobs(Path(settings.storage) if settings.storage else data / "files")
            shelf = Shelf(self._rows, blobs, self._clock, settings.file_mb << 20, self._trouble)
            uploads = Uploads(shelf, SqlUploads(self._rows), int(settings.upload_gb * _GIB))
            self._archive = Archive(shelf, uploads, self._trouble)
            background.spawn("files", self._archive.run())
        return self._archive

    def _trouble(self, said: str) -> None:
        self._log.line("error", "files that are over could not be removed", said=said)

    async def close(self) -> None:
        """Close what was opened."""
        if self._archive is not None:
            await self._archive.shelf.close()
            await self._archive.shelf.blobs.close()
        if self._rows is not None:
            await self._rows.close()
