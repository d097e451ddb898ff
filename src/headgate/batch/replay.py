"""Lines whose answers came from a provider's batch: calls on the path of all others, which ask nobody.

So each is booked, priced and written as any other line is; only where its answer comes from differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.attempts import Attempts
from headgate.errors import NotFound, Unavailable, UpstreamInterrupted
from headgate.pipeline import Pipeline
from headgate.ports import Head
from headgate.values import Prices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.attempts import Attempt
    from headgate.batch.line import Running
    from headgate.channels import Channel
    from headgate.pipeline import Stages
    from headgate.ports import Declined, Request, Sink
    from headgate.routing.routes import Routes
    from headgate.settle import Tab
    from headgate.values import Call, Target
    from headgate.wire.batchjobs import Passed

NOT_SENT = b"0 "  # how the answer begins that there is to what was not sent
_JSON = ((b"content-type", b"application/json"),)


def packed(status: int, body: bytes) -> bytes:
    """Return an answer as it is kept until its line is booked; the status 0: the line was not sent."""
    return b"%d %b" % (status, body)


def at_its_provider(targets: tuple[Target, ...], passed: Passed) -> Target:
    """Return, of a model's targets, where its batch is.

    Raises:
        NotFound: it is no longer configured.
    """
    for target in targets:
        host = target.host
        same = (host.name, host.credential, target.model.name)
        if same == (passed.provider, passed.credential, passed.upstream) and not target.simulated:
            return target
    raise NotFound(
        f"The provider {passed.provider!r}, which runs this batch, is no longer configured for its model."
    )


class OneAttempt(Attempts):
    """Asks the one target once: nothing that a batch has answered can be asked again."""

    __slots__ = ()

    def __init__(self, attempts: Attempts) -> None:
        """Take the health and the doors of another, which hear nothing of this."""
        self.health, self.doors = attempts.health, attempts.doors

    async def run(
        self, attempt: Attempt, call: Call, sink: Sink, tab: Tab, targets: tuple[Target, ...]
    ) -> None:
        """Ask the target. Raises `UpstreamError`."""
        await attempt(call, sink, tab, targets[0])

    def heard(self, tab: Tab, target: Target, head: Head) -> None:
        """Learn nothing."""


class Answered:
    """The answer of a line. Implements `ports.Exchange`."""

    reused = False

    def __init__(self, running: Mapping[str, Running]) -> None:
        self.sent = False
        self._running = running
        self._status = 0
        self._body = b""

    def send(self, request: Request) -> None:
        """Find the answer."""
        self.sent = True
        line = self._running.get(request.request_id)
        status, _, self._body = ((line.claim.answer if line else None) or NOT_SENT).partition(b" ")
        self._status = int(status)

    async def head(self) -> Head:
        """Return its head."""
        if not self._status:
            raise UpstreamInterrupted("This request was not sent to the provider.")
        return Head(self._status, _JSON)

    async def read(self) -> bytes:
        """Return its body, once."""
        return self.whole()

    def whole(self) -> bytes:
        """Do the same."""
        body, self._body = self._body, b""
        return body

    def abort(self) -> None:
        """Have nothing to close."""

    def release(self) -> None:
        """Have nothing to give back."""


class Replays:
    """Where the answers of lines are. Implements `ports.Transport`.

    Args:
        running: the lines that run, by the ids of their requests.
    """

    def __init__(self, running: Mapping[str, Running]) -> None:
        self._running = running

    async def acquire(self, target: Target) -> Answered:
        """Return an exchange."""
        del target
        return Answered(self._running)

    async def converse(self, target: Target, request: Request) -> Channel | Declined:
        """Refuse."""
        del target, request
        raise Unavailable("A batch has no sessions.")

    async def close(self) -> None:
        """Have nothing to close."""


class ReplayPipeline(Pipeline):
    """Serves lines by the answers that they have.

    Args:
        stages: of lines.
        running: the lines that run, by the ids of their requests.
    """

    __slots__ = ("_lines",)

    def __init__(self, stages: Stages, running: Mapping[str, Running]) -> None:
        super().__init__(stages)
        self._lines = running

    def candidates(self, call: Call, routes: Routes) -> tuple[Target, ...]:
        """Return the one target, at what its batches cost."""
        line = self._lines[call.request_id]
        passed = line.batch.job.passed
        assert passed is not None
        target = at_its_provider(super().candidates(call, routes), passed)
        target = msgspec.structs.replace(target, weight=0, steered=False)
        if line.claim.paid:  # its provider bills it once, and that is in the books
            target = msgspec.structs.replace(target, costs=Prices())
        return (target,)
