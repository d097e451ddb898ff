"""Batches as they are kept: the job, its lines, and the part of the money that each line may spend. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from headgate.values import Book, NanoUSD, Usage, WallMicros
from headgate.wire.batches import BatchCounts, BatchError, BatchStatus, BatchTimes, BatchView, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

WAITING, RUNNING, ANSWERED, FAILED = range(4)  # of a line; the last two have their output
OPEN: Final = ("validating", "in_progress", "cancelling", "finalizing")
_SLOT: Final = "batch-"


class Portion(msgspec.Struct, frozen=True, array_like=True):
    """What a grant gives to a batch, in the order in which it is spent."""

    pot: int
    grant: int
    amount: int  # nano-USD, or tokens
    in_tokens: bool = False  # then it is the only one, and covers all of the batch


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of the batches that a batch is at its provider; one that is within its bounds is one."""

    until: int  # its last line; its first one is behind the part before
    lines: int  # how many of them it has
    file: str = ""  # the provider's name of them
    intended: WallMicros = 0  # it may have been made since
    batch: str = ""  # the provider's name of it
    cancelled: bool = False  # the provider was told to end it
    ended: str = ""  # how it ended: completed, failed, expired, cancelled
    output: str = ""  # the provider's name of its answers
    errors: str = ""  # and that of errors
    had: bool = False  # what it answered is kept here,
    unread: bool = False  # but for lines that nobody could read

    @property
    def open(self) -> bool:
        """Say whether it is still to be made."""
        return not (self.batch or self.ended)


class Passed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A batch at its provider's own batch API, whose names no caller is shown."""

    provider: str
    credential: str = ""  # which of its keys; empty: its only one
    upstream: str  # the model, as the provider calls it
    parts: tuple[Part, ...] = ()  # in the order in which they are made
    whole: bool = False  # they have all lines
    ended: str = ""  # how it ended: completed, expired, cancelled
    fetched: bool = False  # all that it has answered is with the lines


class BatchJob(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a batch besides its counts."""

    id: str  # `batch_…`
    call: bytes  # 16 bytes: the parent of its calls
    account: int
    project: int
    key: int
    member: int
    book: Book
    endpoint: str
    input_file: str
    created_at: WallMicros
    expires_at: WallMicros
    model: str = ""
    kept_s: int = 0
    metadata: dict[str, str] | None = None
    times: BatchTimes = BatchTimes()
    errors: tuple[BatchError, ...] = ()
    output_file: str = ""
    error_file: str = ""
    capped: bool = False  # its money is held
    held: NanoUSD = 0  # what its lines may cost together; of one in tokens: how many
    held_at: WallMicros = 0  # its calls belong to the periods and grants of this instant
    pots: tuple[int, ...] = ()  # of budgets: all of `held` was taken from each
    portions: tuple[Portion, ...] = ()  # of grants: together they are `held`
    late: bool = False  # it expired
    passed: Passed | None = None  # None: we run it

    @property
    def in_tokens(self) -> bool:
        """Say whether a grant in tokens covers it: then its lines hold, and are charged, tokens."""
        return bool(self.portions) and self.portions[0].in_tokens


class KeptBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as it stands in the store."""

    n: int
    job: BatchJob
    status: BatchStatus
    fence: int = 0  # grows with each owner
    counts: BatchCounts = BatchCounts()
    usage: Usage = Usage()
    charge: NanoUSD = 0  # of one in tokens: how many

    @property
    def slot(self) -> str:
        """Return the slot of the slices that hold its money."""
        return slot_of(self.n)

    def shown(self) -> dict[str, object]:
        """Return the official object."""
        job = self.job
        return shown(
            BatchView(
                job.id,
                job.endpoint,
                job.model,
                job.input_file,
                self.status,
                job.created_at,
                job.expires_at,
                job.times,
                self.counts,
                self.usage,
                job.errors,
                job.output_file,
                job.error_file,
                job.metadata,
            )
        )


class NewLine(NamedTuple):
    """A line of an input that was read and found right."""

    n: int  # from 1
    at: int  # where it begins in the file, in bytes
    size: int
    custom_id: str
    start: NanoUSD  # where its part of the batch's money, or tokens, begins,
    bound: NanoUSD  # and how much it is


class Claim(NamedTuple):
    """A line that a worker has taken to run."""

    n: int
    at: int
    size: int
    custom_id: str
    start: NanoUSD
    bound: NanoUSD
    call: bytes  # the id of the call that it becomes
    fence: int
    tries: int  # before this one
    paid: NanoUSD  # by calls before this one: then this one is free
    unsure: bool = False  # nobody knows whether one of them was paid: then it is free, too
    answer: bytes | None = None  # what its provider's batch has answered


class Finished(NamedTuple):
    """A line that has its output."""

    n: int
    fence: int
    output: bytes  # with its end
    answered: bool  # its status was 2xx
    charge: NanoUSD  # of all its calls
    back: tuple[tuple[int, int], ...]  # pot: what of its money is free again
    usage: Usage = Usage()


class Returned(NamedTuple):
    """A line that is to be tried again."""

    n: int
    fence: int
    due: WallMicros  # not before
    paid: NanoUSD
    tried: bool = True  # it counts as a try


class Result(NamedTuple):
    """The output of a line, in the order in which they came."""

    seq: int
    answered: bool
    output: bytes


class Place(NamedTuple):
    """A worker, as leases name it."""

    slot: str
    epoch: int  # of the worker in its slot; 0: it is not in service yet


class Room(NamedTuple):
    """What a worker has room for."""

    calls: Sequence[bytes]  # ids for the calls of so many lines
    most: int  # lines of the model that may run at once, of all workers together
    silent_us: int = 60_000_000  # of a worker that says nothing: then it has no part of them


class Loan(NamedTuple):
    """Money that moves from a worker's slices into the batch's own."""

    place: Place
    taken: tuple[tuple[int, int], ...]  # pot, nano-USD


class Quota(NamedTuple):
    """A limit of enqueued tokens that was passed."""

    scope: str
    limit: int
    used: int


def line_id(job: BatchJob, n: int) -> str:
    """Return the id of a line's output."""
    return f"batch_req_{job.call.hex()}{n:05x}"


def video_id(job: BatchJob, n: int) -> str:
    """Return the id of the video that a line orders: the same however often the line is run."""
    return f"video_{job.call.hex()}{n:05x}"


def slot_of(n: int) -> str:
    """Return the slot of the slices that hold a batch's money."""
    return f"{_SLOT}{n}"


def held_of(job: BatchJob, start: NanoUSD, bound: NanoUSD) -> tuple[tuple[int, int], ...]:
    """Return what a line's part of the money is of each pot."""
    budgets = tuple((pot, bound) for pot in job.pots) if job.capped else ()
    return (*budgets, *((part.pot, part.amount) for part in portions_of(job, start, bound)))


def portions_of(job: BatchJob, start: NanoUSD, bound: NanoUSD) -> tuple[Portion, ...]:
    """Return the parts of grants that a part of the batch's money lies in."""
    found, begin, end = [], 0, start + bound
    for part in job.portions:
        low, high = max(start, begin), min(end, begin + part.amount)
        if low < high:
            found.append(Portion(part.pot, part.grant, high - low, part.in_tokens))
        begin += part.amount
    return tuple(found)


def left_of(job: BatchJob, start: NanoUSD, bound: NanoUSD, charge: NanoUSD) -> tuple[tuple[int, int], ...]:
    """Return what is left of a line's money in each pot, charged in order."""
    if not job.capped:
        return ()
    rest, left = charge, [(pot, bound - charge) for pot in job.pots]
    for part in portions_of(job, start, bound):
        taken = min(rest, part.amount)
        rest -= taken
        left.append((part.pot, part.amount - taken))
    return tuple(left)
