"""What keeps files: put together when somebody asks for the first one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headgate.credentials import AccessKeys
from headgate.shelf import Counted
from headgate.stores.sql.database import Database, connect
from headgate.stores.sql.nodes import slot_name

if TYPE_CHECKING:
    from headgate.config import Config
    from headgate.files.archive import Archive
    from headgate.observe.log import Log
    from headgate.pipeline import Stages
    from headgate.process.background import Background
    from headgate.settings.files import FileSettings
    from headgate.shelf import Blobs
    from headgate.stores.sql.files import SqlFiles

_GB: Final = 1_000_000_000
_GIB: Final = 1 << 30


class FileParts:
    """Who keeps files, in one worker.

    Args:
        config: the settings.
        stages: whose clock and way out are used.
        slot: of this worker.
        log: told what went wrong.
    """

    __slots__ = ("_archive", "_clock", "_config", "_log", "_rows", "_slot", "_transport")

    def __init__(self, config: Config, stages: Stages, slot: int, log: Log) -> None:
        self._config = config
        self._clock = stages.ledger.clock
        self._transport = stages.transport
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
            from headgate.files.inlining import Inlining
            from headgate.files.shelf import Shelf
            from headgate.files.uploads import Uploads
            from headgate.stores.sql.files import Room, SqlFiles
            from headgate.stores.sql.uploads import SqlUploads

            settings, data = self._config.files, Path(self._config.storage.data)
            books = Database(data, self._config.storage.database)
            room = Room(int(settings.project_gb * _GB), int(settings.account_gb * _GB))
            self._rows = SqlFiles(partial(connect, books), room, slot_name(node, f"slot-{self._slot}"))
            largest = settings.file_mb << 20
            shelf = Shelf(self._rows, self._blobs(settings, data), self._clock, largest, self._trouble)
            uploads = Uploads(shelf, SqlUploads(self._rows), int(settings.upload_gb * _GIB))
            inlining = Inlining(shelf, self._config.server.max_image_body_bytes)
            self._archive = Archive(shelf, uploads, inlining, self._trouble)
            background.spawn("files", self._archive.run())
        return self._archive

    def gauges(self) -> dict[str, float]:
        """Return what was counted since the start."""
        counted = self._archive.shelf.counted if self._archive is not None else Counted()
        return {
            "headgate_files_brought": counted.kept,
            "headgate_files_written_bytes": counted.written,
            "headgate_files_read_bytes": counted.read,
            "headgate_files_removed_blobs": counted.removed,
        }

    def _blobs(self, settings: FileSettings, data: Path) -> Blobs:
        place = settings.bucket
        if place is None:
            from headgate.stores.blobs.folder import FolderBlobs

            return FolderBlobs(Path(settings.storage) if settings.storage else data / "files")
        from headgate.stores.blobs.s3 import Bucket, S3Blobs

        keys = AccessKeys(settings.key_id, settings.key, settings.session)
        bucket = Bucket(place.endpoint, place.host, settings.region, place.name, place.prefix, keys)
        return S3Blobs(bucket, self._transport, self._clock, self._trouble)

    def _trouble(self, said: str) -> None:
        self._log.line("error", "the storage of files is in trouble", said=said)

    async def close(self) -> None:
        """Close what was opened."""
        if self._archive is not None:
            await self._archive.shelf.close()
            await self._archive.shelf.blobs.close()
        if self._rows is not None:
            await self._rows.close()
