"""Who is told that a batch has work: this process, where it runs lines, and others over a broker.

Nothing depends on it: a worker also looks by itself, often where nobody could call it, now and then where a
broker does. So what is lost on the way costs time, and a call too many costs a look.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from headgate.batch.runner import Runner
    from headgate.wire.batchjobs import KeptBatch

LOOK_S: Final = 0.5
CALLED_S: Final = 15.0  # between two looks of a worker that is called
_LINES_EACH: Final = 50  # a batch with more of them is worth another worker
_MOST: Final = 16  # workers that are called to one batch
_VISIT_S: Final = 60.0  # then a message is acknowledged: brokers give up who holds one for long


class Broker(Protocol):
    """Tells other processes."""

    @property
    def up(self) -> bool:
        """Say whether it can be reached, as far as is known."""
        ...

    async def call(self, batch: str, times: int = 1) -> bool:
        """Tell so many workers that a batch has work; say whether that was confirmed. Bounded."""
        ...


class Summons:
    """Calls to a batch, from here and to here. Implements `stores.broker.Answering`.

    Args:
        broker: tells other processes; None: there are none, or they look by themselves.
    """

    def __init__(self, broker: Broker | None = None) -> None:
        self.runner: Runner | None = None  # of lines, here; None: other processes do it
        self._broker = broker
        self._calls: set[asyncio.Task[bool]] = set()

    @property
    def look_s(self) -> float:
        """Return how long an idle worker may wait between two looks."""
        return CALLED_S if self._broker is not None and self._broker.up else LOOK_S

    def order(self, batch: KeptBatch) -> None:
        """Say that a batch was ordered, or is to be cancelled."""
        if self.runner is not None:
            self.runner.wake()
        self._call(batch, 1)

    def begun(self, batch: KeptBatch) -> None:
        """Say that the lines of a batch wait."""
        self._call(batch, min(_MOST, batch.counts.total // _LINES_EACH))

    async def visit(self, batch: str) -> None:
        """Work on a batch because somebody has called, until there is nothing to do or for a minute."""
        runner = self.runner
        if runner is None:
            return
        try:
            async with asyncio.timeout(_VISIT_S):
                await runner.follow(batch)
        except TimeoutError:
            return  # it goes on; the message has done its work

    async def close(self) -> None:
        """Let calls that are under way go out."""
        if self._calls:
            await asyncio.wait(self._calls)

    def _call(self, batch: KeptBatch, times: int) -> None:
        if self._broker is None or times < 1:
            return
        task = asyncio.get_running_loop().create_task(self._broker.call(batch.job.id, times))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
