"""Outputs on their way to the store: many in one transaction."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from headgate.wire.batchjobs import Finished, KeptBatch, Returned

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.batch.parts import Parts

_EVERY_S: Final = 0.01
_AGAIN_S: Final = 0.5
_AT_ONCE: Final = 256  # lines in one transaction,
_BYTES_AT_ONCE: Final = 4 << 20  # and bytes, unless one line has more: all who write wait for it
_ABOUT: Final = "outputs"
LINES: Final = "headgate_batch_lines"  # a counter


class Outputs:
    """What came of lines, until it is kept.

    Args:
        parts: of the process.
        kept: told of which lines of a batch something was kept.
    """

    def __init__(self, parts: Parts, kept: Callable[[KeptBatch, list[Finished | Returned]], None]) -> None:
        self._parts = parts
        self._kept = kept
        self._waiting: list[tuple[KeptBatch, Finished | Returned]] = []
        self._bell = asyncio.Event()
        self._turn = asyncio.Lock()  # each line is kept once, also while it is closed

    def put(self, batch: KeptBatch, line: Finished | Returned) -> None:
        """Keep what came of a line, soon."""
        self._waiting.append((batch, line))
        self._bell.set()

    async def run(self) -> None:
        """Keep outputs for as long as the process lives."""
        while True:
            await self._bell.wait()
            await asyncio.sleep(_EVERY_S)
            self._bell.clear()
            if not await self._keep_all():
                self._bell.set()
                await asyncio.sleep(_AGAIN_S)

    async def close(self) -> None:
        """Keep what is left; where the store refuses it, the lines are run again at the house's expense."""
        await self._keep_all()

    async def _keep_all(self) -> bool:
        """Keep what there is; False: something is left, and it was told why."""
        try:
            async with self._turn:
                while self._waiting:
                    await self._keep()
        except Exception as fault:  # a bug, too: what waits here is tried again
            self._parts.troubles.caught(_ABOUT, fault)
            return False
        self._parts.troubles.over(_ABOUT)
        return True

    async def _keep(self) -> None:
        first = self._waiting[0][0]
        taken = self._together(first)
        done = [line for _, line in taken if isinstance(line, Finished)]
        back = [line for _, line in taken if isinstance(line, Returned)]
        if done:
            self._parts.stages.failpoints.hit("batch-before-output")
            await self._parts.store.finish(first, done)
            self._parts.stages.failpoints.hit("batch-after-output")
        if back:
            await self._parts.store.give_back(first, back)
        gone = {id(line) for _, line in taken}
        self._waiting = [each for each in self._waiting if id(each[1]) not in gone]
        self._kept(first, [line for _, line in taken])
        self._count(done, len(back))

    def _together(self, batch: KeptBatch) -> list[tuple[KeptBatch, Finished | Returned]]:
        """Return what of a batch is kept in one transaction."""
        taken: list[tuple[KeptBatch, Finished | Returned]] = []
        size = 0
        for each in self._waiting:
            if each[0].n == batch.n and len(taken) < _AT_ONCE:
                size += len(each[1].output) if isinstance(each[1], Finished) else 0
                if taken and size > _BYTES_AT_ONCE:
                    break
                taken.append(each)
        return taken

    def _count(self, done: list[Finished], again: int) -> None:
        count = self._parts.stages.steering.trials.counter.count
        answered = sum(line.answered for line in done)
        for outcome, lines in (("answered", answered), ("failed", len(done) - answered), ("again", again)):
            if lines:
                count(LINES, outcome, by=lines)
