"""What serves sessions and videos, and what records answers: put together when the first one is asked for."""

from __future__ import annotations

import asyncio
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from headgate.process.files import FileParts
from headgate.stores.sql.database import RECORDINGS, Database, connect
from headgate.stores.sql.files import any_files
from headgate.stores.sql.sealed import any_lost
from headgate.stores.sql.videos import SqlVideos, any_open
from headgate.transport.framing import Bounds
from headgate.transport.http import HttpTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.batch.keeper import Keeper as BatchKeeper
    from headgate.config import Config
    from headgate.files.archive import Archive
    from headgate.live.sessions import Sessions
    from headgate.observe.log import Log
    from headgate.pipeline import Pipeline, Stages
    from headgate.process.background import Background
    from headgate.process.batches import BatchParts
    from headgate.recordings.recorder import Recorder
    from headgate.routing.routes import Routes
    from headgate.stores.postgres.recordings import SharedRecordings
    from headgate.stores.sql.database import Place
    from headgate.stores.sql.recordings import SqlRecordings
    from headgate.transport.http import HttpSettings
    from headgate.videos.keeper import Keeper

_LARGEST = 4 << 30  # bytes of one video


class Keepers(NamedTuple):
    """Who keeps what outlives its call."""

    videos: Callable[[], Keeper]
    files: Callable[[], Archive]
    batches: Callable[[], BatchKeeper]
    recorder: Callable[[], Recorder]


class OnDemand:
    """Who serves sessions, and keeps the jobs of videos, in one worker.

    Args:
        stages: of the pipeline.
        pipeline: of calls.
        place: the data folder, and where the books are.
        settings: how the gateway goes out.
        routes: where models are, now.
        team: this worker's slot, and how many there are.
    """

    __slots__ = (
        "_downloads",
        "_keeper",
        "_pipeline",
        "_place",
        "_routes",
        "_sessions",
        "_settings",
        "_stages",
        "_store",
        "_team",
        "batch_parts",
        "node",
        "session_parts",
    )  # fmt: skip

    def __init__(
        self,
        stages: Stages,
        pipeline: Pipeline,
        place: Place,
        settings: HttpSettings,
        routes: Callable[[], Routes],
        team: tuple[int, int],
    ) -> None:
        self._stages = stages
        self._pipeline = pipeline
        self._place = place
        self._settings = settings
        self._routes = routes
        self._team = team
        self._sessions: Sessions | None = None
        self._keeper: Keeper | None = None
        self._store: SqlVideos | None = None
        self._downloads: HttpTransport | None = None
        self.session_parts: SessionParts | None = None
        self.batch_parts: BatchParts | None = None
        self.node = ""  # that the data folder is, on a database that it shares

    def furnish(self, node: str, session_parts: SessionParts, batch_parts: BatchParts) -> None:
        """Take in who records and who runs batches, and which node the data folder is."""
        self.node, self.session_parts, self.batch_parts = node, session_parts, batch_parts

    def keepers(self, background: Background) -> Keepers:
        """Return who is asked for what outlives its call; each begins its work when it is first asked for."""
        assert self.session_parts is not None
        assert self.batch_parts is not None
        return Keepers(
            partial(self.keeper, background),
            partial(self.file_parts, background),
            partial(self.batch_parts.keeper, background),
            partial(self.session_parts.recorder, background, self.node),
        )

    def gauges(self) -> dict[str, float]:
        """Return what is counted of files."""
        return self.session_parts.file_parts.gauges() if self.session_parts is not None else {}

    def file_parts(self, background: Background) -> Archive:
        """Return who keeps files; what is over is removed from now on."""
        assert self.session_parts is not None
        return self.session_parts.file_parts.archive(background, self.node)

    def sessions(self, new_id: Callable[[], bytes], stopping: Callable[[], bool]) -> Sessions:
        """Return who serves sessions; the first one imports what that needs."""
        if self._sessions is None:
            from headgate.live.sessions import Sessions

            self._sessions = Sessions(self._pipeline, self._stages, new_id, stopping)
        return self._sessions

    def keeper(self, background: Background) -> Keeper:
        """Return who keeps the jobs, which are asked for from now on."""
        if self._keeper is None:
            from dataclasses import replace

            from headgate.providers.registry import VIDEOS
            from headgate.videos.keeper import Keeper
            from headgate.videos.works import Works

            stages = self._stages
            settings = replace(self._settings, bounds=Bounds(body_bytes=_LARGEST))
            self._downloads = HttpTransport(stages.ledger.clock, settings)
            self._store = SqlVideos(partial(connect, self._place), self.node)
            works = Works(VIDEOS, stages.transport, stages.simulator, self._downloads)
            self._keeper = Keeper(stages, self._pipeline, self._store, works, self._routes, self._team)
            background.spawn("videos", self._keeper.run())
        return self._keeper

    async def start(self, background: Background) -> None:
        """Take over what is still being made, before anybody else can spend its money; note what is lost."""
        files, videos, recordings = await asyncio.to_thread(self._left)
        if self.session_parts is not None:
            if recordings or self.session_parts.has_recorded:
                await self.session_parts.recorder(background, self.node).adopt()
            if files:
                await self.file_parts(background).shelf.adopt()
        if self.batch_parts is not None:
            self.batch_parts.start(background)
        if videos:
            await self.keeper(background).adopt()

    def _left(self) -> tuple[bool, bool, bool]:
        """Say whether there are files to look after, videos that are being made, recordings that are lost."""
        with closing(connect(self._place)) as sql:
            return any_files(sql), any_open(sql), any_lost(sql, self.node)

    async def rest(self) -> None:
        """Ask for no job any more, and give back what is held for them; keep what came of lines that ran."""
        if self.batch_parts is not None:
            await self.batch_parts.finish()
        if self._keeper is not None:
            self._keeper.close()

    async def close(self) -> None:
        """Close what was opened."""
        if self.session_parts is not None:
            await self.session_parts.close()
        if self.batch_parts is not None:
            await self.batch_parts.close()
        if self._store is not None:
            await self._store.close()
        if self._downloads is not None:
            await self._downloads.close()


class SessionParts:
    """Who records answers, and keeps files, in one worker.

    Args:
        stages: of the pipeline.
        config: the settings.
        pepper: of the data folder: the secret of what recordings are found by, and sealed with without a KEK.
        slot: of this worker.
        log: told when something that nobody waits for could not be done.
    """

    __slots__ = ("_config", "_log", "_pepper", "_recorder", "_slot", "_stages", "_store", "file_parts")

    def __init__(self, stages: Stages, config: Config, pepper: bytes, slot: int, log: Log) -> None:
        self._stages = stages
        self._config = config
        self._pepper = pepper
        self._slot = slot
        self._log = log
        self._recorder: Recorder | None = None
        self._store: SqlRecordings | SharedRecordings | None = None
        self.file_parts = FileParts(config, stages, slot, log)

    @property
    def has_recorded(self) -> bool:
        """Say whether something was ever recorded in this data folder."""
        return (Path(self._config.storage.data) / RECORDINGS).exists()

    def recorder(self, background: Background, node: str) -> Recorder:
        """Return who records; what is old is forgotten from now on."""
        if self._recorder is None:
            from headgate.recordings.recorder import Recorder, Terms

            settings = self._config.recordings
            self._store = self._open_store(node)
            terms = Terms(
                settings.keep_s,
                settings.resume_s,
                settings.answer_mb << 20,
                settings.memory_mb << 20,
                self._slot,
                self._config.server.workers,
                self._pepper,
                shared=bool(node),
            )
            self._recorder = Recorder(self._stages, self._store, terms, self._trouble)
            background.spawn("recordings", self._recorder.run())
        return self._recorder

    def _open_store(self, node: str) -> SqlRecordings | SharedRecordings:
        """Return where recordings are: in the database that nodes share, or in a file of the only one."""
        from headgate.stores.sql.sealed import Room
        from headgate.vaults.boxes import Box

        settings, storage = self._config.recordings, self._config.storage
        place = Database(Path(storage.data), storage.database)
        room = Room(settings.entries, settings.total_mb << 20, int(settings.kept_h * 3_600_000_000))
        box = Box([*self._config.keks, self._pepper])
        if node:
            from headgate.stores.postgres.recordings import SharedRecordings

            return SharedRecordings(place, (node, self._slot), box, room)
        from headgate.stores.sql.recordings import SqlRecordings

        return SqlRecordings(place, box, room)

    def _trouble(self, said: str) -> None:
        self._log.line("error", "an answer could not be recorded", said=said)

    async def close(self) -> None:
        """Wait until it is known how every recording ended, and close what was opened."""
        if self._recorder is not None:
            await self._recorder.close()
        if self._store is not None:
            await self._store.close()
        await self.file_parts.close()
