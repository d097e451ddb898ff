"""The seam of batches: where jobs, their lines and their money are kept.

Line state, lease (owner, until) and fencing number live here, so whoever announces work, a loop or a broker,
only says that there is some. A line is taken over from a dead worker once the journal of that is in the books
(its slot has begun anew, or was left); from one that has merely fallen silent only after its lease, and then
at the house's expense, since nobody knows what it was charged; what is held for that run stays held until
it is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from headgate.errors import GatewayError
    from headgate.values import Book, WallMicros
    from headgate.wire.batches import BatchError
    from headgate.wire.batchjobs import (
        BatchJob,
        Claim,
        Finished,
        KeptBatch,
        Loan,
        NewLine,
        Place,
        Quota,
        Result,
        Returned,
        Room,
    )


class BatchStore(Protocol):
    """Keeps batches. Every method raises `Unavailable` where the store does not answer."""

    async def create(self, job: BatchJob) -> KeptBatch:
        """Keep a new batch, as `validating`."""
        ...

    async def find(self, project: int, book: Book, name: str) -> KeptBatch | None:
        """Return a batch of a project."""
        ...

    async def listed(self, project: int, book: Book, after: str, limit: int) -> list[KeptBatch] | None:
        """Return a project's batches behind another, the newest first; None where that is none of its own."""
        ...

    async def cancel(self, project: int, book: Book, name: str, now: WallMicros) -> KeptBatch | GatewayError:
        """Begin to cancel a batch; return it, or why it cannot be."""
        ...

    async def results(self, n: int, after: int, limit: int) -> list[Result]:
        """Return the outputs that came behind another, until they are published."""
        ...

    # ── for who runs them ────────────────────────────────────────────────────────────────────────

    async def open_batches(self) -> list[KeptBatch]:
        """Return every batch that is not done, the oldest first."""
        ...

    async def own(self, n: int, place: Place, now: WallMicros, until: WallMicros) -> KeptBatch | None:
        """Become who reads or publishes a batch, with a new fencing number; None: somebody else is."""
        ...

    async def see_to(self, n: int, place: Place, now: WallMicros, until: WallMicros) -> KeptBatch | None:
        """Become who sees to a batch at its provider, with a new fencing number; None: somebody else is."""
        ...

    async def note(self, batch: KeptBatch, *, uncancelled: bool = False) -> bool:
        """Keep what is known of a batch at its provider, perhaps unless it was cancelled. False: fenced."""
        ...

    async def take_back(self, batch: KeptBatch) -> bool:
        """Keep that we run a batch of which its provider has run nothing; its answers go. False: fenced."""
        ...

    async def keep_answers(self, batch: KeptBatch, answers: Sequence[tuple[int, bytes]]) -> bool:
        """Keep what a provider has answered to lines that wait. False: fenced."""
        ...

    async def add_lines(self, batch: KeptBatch, lines: Sequence[NewLine], *, first: bool) -> bool:
        """Keep lines of a batch that is being read; the first ones replace what there is. False: fenced."""
        ...

    async def begin(
        self, batch: KeptBatch, tokens: int, limits: tuple[int, int, int], loan: Loan
    ) -> Quota | None:
        """Put a batch in progress, with its money; or return which quota has no room.

        Raises:
            Fenced: who reads the batch is another one now, or it is cancelled: nothing is done.
            Unavailable: the worker is another one now: nothing is done.
        """
        ...

    async def has_begun(self, batch: KeptBatch) -> bool:
        """Say whether a batch has its money, after whoever may be giving it that has ended."""
        ...

    async def fail(self, batch: KeptBatch, errors: tuple[BatchError, ...], now: WallMicros) -> None:
        """End a batch that cannot be run."""
        ...

    async def claim(
        self, n: int, place: Place, room: Room, now: WallMicros, until: WallMicros
    ) -> list[Claim]:
        """Take waiting lines of a batch in progress, up to one for each id of a call.

        Workers that run lines of one model share what may run at once.
        Lines with a provider's answer are taken also of one that is cancelled or late.
        """
        ...

    async def finish(self, batch: KeptBatch, done: Sequence[Finished]) -> None:
        """Keep outputs and give back what of their money was not used; what is fenced changes nothing."""
        ...

    async def give_back(self, batch: KeptBatch, lines: Sequence[Returned]) -> None:
        """Let lines be tried again."""
        ...

    async def renew(self, place: Place, calls: Set[bytes], until: WallMicros) -> None:
        """Keep the lines that a worker has, by their calls; any other that it had claimed waits again."""
        ...

    async def settle_doubts(self) -> int:
        """Free what was kept for runs of which is known now what they were charged; return how many."""
        ...

    async def take_over(self, now: WallMicros) -> int:
        """Let the lines of workers that are no more be tried again; return how many."""
        ...

    async def close_waiting(self, batch: KeptBatch, code: str, most: int) -> int:
        """Give up to so many waiting lines without an answer an error as their output; return how many."""
        ...

    async def settle_down(self, n: int, now: WallMicros) -> KeptBatch | None:
        """Go to `finalizing` where no line waits or runs any more; return it then, as ended if it has."""
        ...

    async def outputs(self, n: int, after: int, most: int, *, answered: bool) -> list[tuple[int, bytes]]:
        """Return outputs behind a line, in the order of the input: the line and its output."""
        ...

    async def publish(self, batch: KeptBatch) -> bool:
        """End a batch that has its files; its lines are forgotten. False: fenced."""
        ...
