"""Lines that their provider takes as calls at its batch API, and answers once it has room for them.

Each is a call on the path of all others, and booked like them. It is asked of one target, and waits there as
long as its batch has time. What fails is the runner's: it lets the line wait, and asks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.batch.replay import OneAttempt
from headgate.errors import NotFound, WrongShape
from headgate.money.batchterms import PASSED
from headgate.pipeline import Pipeline
from headgate.providers import shaping

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.attempts import Attempt
    from headgate.batch.line import Running
    from headgate.batch.parts import Parts
    from headgate.pipeline import Stages
    from headgate.ports import Sink
    from headgate.routing.routes import Routes
    from headgate.settle import Tab
    from headgate.values import Call, Target
    from headgate.wire.batchjobs import BatchJob


def waits(parts: Parts, job: BatchJob) -> bool:
    """Say whether the lines of a batch wait at their provider, by the settings of now."""
    wall = parts.stages.ledger.clock.wall()
    try:
        found = parts.routes().candidates(job.model, job.book, wall, PASSED)
    except NotFound:  # which each of them will say
        return False
    return parts.uplink.calls(found[0], parts.operations[job.endpoint]) is not None


class WaitingAttempts(OneAttempt):
    """Asks the one target, and once more where the answer is not the JSON that was asked for."""

    __slots__ = ()

    async def run(
        self, attempt: Attempt, call: Call, sink: Sink, tab: Tab, targets: tuple[Target, ...]
    ) -> None:
        """Ask the target. Raises `UpstreamError`."""
        try:
            await super().run(attempt, call, sink, tab, targets)
        except WrongShape as error:
            if tab.shown or not shaping.asks_again(call, error):
                raise
        else:
            return
        await super().run(attempt, call, sink, tab, targets)


class WaitingPipeline(Pipeline):
    """Serves such lines.

    Args:
        stages: of lines.
        parts: of the process.
        running: the lines that run, by the ids of their calls.
    """

    __slots__ = ("_lines", "_parts")

    def __init__(self, stages: Stages, parts: Parts, running: Mapping[bytes, Running]) -> None:
        super().__init__(stages)
        self._parts = parts
        self._lines = running

    def candidates(self, call: Call, routes: Routes) -> tuple[Target, ...]:
        """Return the one target, by one of its provider's keys, at its batch API."""
        targets = super().candidates(call, routes)
        first = targets[0]
        calls = self._parts.uplink.calls(first, call.operation)
        if calls is None:  # the settings have changed since the line began
            return targets
        place = (first.host.name, first.model.name)
        keys = [each for each in targets if (each.host.name, each.model.name) == place]
        expires_at = self._lines[call.id].batch.job.expires_at
        left_s = (expires_at - self._parts.stages.ledger.clock.wall()) / 1_000_000
        return (calls.at(keys[call.id[-1] % len(keys)], left_s),)
