"""What running batches is made of: given by whoever puts the process together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.shelf import FileOwner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from headgate.batch.store import BatchStore
    from headgate.batch.summons import Summons
    from headgate.batch.troubles import Troubles
    from headgate.batch.uplink import Uplink
    from headgate.errors import GatewayError
    from headgate.money.batchterms import BatchSettings
    from headgate.pipeline import Stages
    from headgate.routing.routes import Routes
    from headgate.shelf import FileShelf
    from headgate.values import Book, Call, Operation, Principal
    from headgate.wire.batchjobs import BatchJob, Place


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
    parse: Callable[[bytes, Call], None]  # fills a call from a body
    error_body: Callable[[GatewayError], bytes]  # in OpenAI's shape
    operations: Mapping[str, Operation]  # by endpoint: those that a batch may be for
    busy: Callable[[], bool]  # the process has more to do than it can
    stopping: Callable[[], bool]  # it begins nothing any more
    troubles: Troubles  # told of what could not be done, and is tried again
    largest: int  # bytes of one request


def owner_of(job: BatchJob) -> FileOwner:
    """Return whose files a batch has."""
    return FileOwner(job.account, job.project, job.book, job.key)
