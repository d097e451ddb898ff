"""What running batches is made of: given by whoever puts the process together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from headgate.identity.standing import allow
from headgate.shelf import FileOwner
from headgate.wire.batches import read_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from headgate.batch.store import BatchStore
    from headgate.batch.summons import Summons
    from headgate.batch.troubles import Troubles
    from headgate.batch.uplink import Uplink
    from headgate.errors import GatewayError
    from headgate.money.batchterms import BatchSettings
    from headgate.pipeline import Stages
    from headgate.providers.videos import VideoState
    from headgate.routing.doors import Seat
    from headgate.routing.routes import Routes
    from headgate.shelf import FileShelf
    from headgate.values import Book, Call, Operation, Principal, Target
    from headgate.wire.batchjobs import BatchJob, Place
    from headgate.wire.videos import VideoJob, VideoOrder


class Inlining(Protocol):
    """Puts files of ours into requests that name them. Every method raises `GatewayError`."""

    async def size(self, call: Call) -> int:
        """Return how many bytes the files that a call names are in it."""
        ...

    async def inline(self, call: Call) -> None:
        """Change a call into what it were if it had brought its files."""
        ...

    async def picture(self, principal: Principal, name: str, param: str) -> tuple[str, bytes]:
        """Return an image of the caller's: its media type and its bytes."""
        ...


class VideoStore(Protocol):
    """Where jobs of videos are kept. Every method raises `Unavailable` when that does not answer."""

    async def put(self, job: VideoJob) -> None:
        """Keep a job as it is now."""
        ...

    async def drop(self, job: VideoJob) -> None:
        """Forget a job."""
        ...

    async def find(self, project: int, name: str) -> VideoJob | None:
        """Return a job of a project that was not deleted."""
        ...

    async def placed(self, name: str) -> VideoJob | None:
        """Return a job by its id alone, also one that its caller has deleted while it was made."""
        ...

    async def open_of(self, batch: str) -> list[VideoJob]:
        """Return the jobs of a batch's lines that nobody has seen the end of."""
        ...


class VideoWorks(Protocol):
    """Who makes videos. Both methods raise `GatewayError`."""

    async def order(self, order: VideoOrder, target: Target, request_id: str) -> VideoState:
        """Order a video."""
        ...

    async def ask(self, job: VideoJob, target: Target) -> VideoState:
        """Ask how far a job is."""
        ...


class Videos(Protocol):
    """Who keeps videos and has them made."""

    @property
    def store(self) -> VideoStore:
        """Return where jobs are kept."""
        ...

    @property
    def works(self) -> VideoWorks:
        """Return who makes them."""
        ...

    def target(self, job: VideoJob) -> Target:
        """Return where a job is made. Raises `NotFound`: its provider is no longer configured."""
        ...

    def seat(self, job: VideoJob) -> Seat | None:
        """Return the room that a job takes at its provider; where that has none left it has none."""
        ...


class Patience(NamedTuple):
    """How long a provider's batch API is waited for."""

    first_s: float = 1.0  # until a batch is looked at again: ever longer,
    longest_s: float = 60.0  # up to this
    unclear_s: float = 3.0  # it may take so long to list what it was asked to make


PATIENCE = Patience()  # of a process


class Parts(NamedTuple):
    """What running batches needs of the process."""

    stages: Stages
    store: BatchStore
    summons: Summons  # tells who runs lines, here and elsewhere
    files: FileShelf
    uplink: Uplink  # to the batch APIs of providers
    terms: Callable[[], BatchSettings]  # as they are now
    routes: Callable[[], Routes]  # where models are, now
    principal: Callable[[int, Book], Awaitable[Principal]]  # of a key, as it is now; raises `CallerError`
    place: Callable[[], Place]  # of this worker
    new_id: Callable[[], bytes]
    start: Callable[[Coroutine[None, None, None], Call], None]  # owns a call
    each: Callable[[Callable[[Call], GatewayError | None]], Awaitable[None]]  # looks at calls; may end them
    parse: Callable[[bytes, Call], None]  # fills a call from a body
    inlining: Inlining  # puts files of ours into requests that name them
    videos: Callable[[], Videos]  # who keeps and makes them
    error_body: Callable[[GatewayError], bytes]  # in OpenAI's shape
    operations: Mapping[str, Operation]  # by endpoint: those that a batch may be for
    busy: Callable[[], bool]  # the process has more to do than it can
    stopping: Callable[[], bool]  # it begins nothing any more
    troubles: Troubles  # told of what could not be done, and is tried again
    largest: int  # bytes of one request
    patience: Patience = Patience()


def take_in(parts: Parts, job: BatchJob, line: tuple[int, bytes], call: Call) -> bytes:
    """Fill the call of a line; return its body.

    Args:
        parts: of the process.
        job: of its batch.
        line: its number, and its bytes.
        call: of a caller who is known.

    Raises:
        GatewayError: what the call would have been refused for.
        LineRefused: it is no request of this batch.
    """
    number, data = line
    body = read_line(data, number, job.endpoint).body
    parts.parse(body, call)
    assert call.principal is not None
    allow(call.principal, call.operation, call.model)
    return body


def names_files(call: Call) -> bool:
    """Say whether a call names files of ours, which are put into it before it is sent."""
    return call.media is not None and call.media.stored


def owner_of(job: BatchJob) -> FileOwner:
    """Return whose files a batch has."""
    return FileOwner(job.account, job.project, job.book, job.key)
