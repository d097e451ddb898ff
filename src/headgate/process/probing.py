"""The gateway's own probes: small calls on the path of all others, with a key and a budget of their own.

A probe asks one target once. Where a breaker has taken that out, it is asked when its time out is over and
nobody else tries it, as by any other call.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from headgate.attempts import Attempts
from headgate.errors import CallerError, GatewayError, QuotaExceeded, UpstreamError
from headgate.http.parse import parse
from headgate.identity.standing import ceiling_now, halted, principal_of
from headgate.pipeline import Pipeline
from headgate.routing.retries import Active, RetryTerms
from headgate.routing.routes import Routes
from headgate.values import Book, Call, Target
from headgate.vitals import FAULTS, Probing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from headgate.observe.log import Log
    from headgate.pipeline import Stages
    from headgate.ports import Headers, Sink
    from headgate.process.lookout import Lookout
    from headgate.records import KeyRow
    from headgate.routing.probes import ProbeTerms
    from headgate.settle import Tab
    from headgate.values import KeyRules, Operation, Principal

_WORDS: Final = "ping"
_OUTPUT: Final = 16  # tokens: the least that all models take
_SPENT: Final = "their budget is used up"
_NONE_NOW: Final = Active(0, 0)


class Means(NamedTuple):
    """What a prober works with."""

    routes: Callable[[], Routes]  # where models are, now
    key: Callable[[], Awaitable[KeyRow | None]]  # that probes are made with, as it stands now
    new_id: Callable[[], bytes]
    start: Callable[[Coroutine[None, None, None], Call], None]  # owns a call
    log: Log


class Prober:
    """Ask each target from time to time. One worker does it for all.

    Args:
        stages: of the pipeline.
        terms: how often, which, for how much.
        means: what it works with.
        lookout: hears what came of each probe.
    """

    def __init__(self, stages: Stages, terms: ProbeTerms, means: Means, lookout: Lookout) -> None:
        self._clock = stages.ledger.clock
        self._health = stages.attempts.health
        once = RetryTerms(attempts=1)
        doors = stages.attempts.doors
        attempts = Attempts(once, self._health, doors, self._clock, lambda: 0.0, lambda _: _NONE_NOW)
        attempts.most_panics = 0  # who is out is left alone
        self._pipeline = Pipeline(replace(stages, attempts=attempts, answers=_Verdicts()))
        self._terms = terms
        self._means = means
        self._lookout = lookout
        self._turn = 0
        self._open: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._say()

    async def run(self) -> None:
        """Probe for as long as the process lives, the targets one after the other within `every_s`."""
        while True:
            targets = self.targets()
            for target in targets:
                task = asyncio.ensure_future(self.probe(target))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                await asyncio.sleep(self._terms.every_s / len(targets))
            if not targets:
                await asyncio.sleep(self._terms.every_s)

    def targets(self) -> list[Target]:
        """Return the targets to ask now; of one with several keys, the next of them."""
        self._turn += 1
        routes, found = self._means.routes(), dict[tuple[str, str], list[Target]]()
        for name in self._terms.targets:
            try:
                targets = routes.candidates(name, Book.REAL, self._clock.wall())
            except GatewayError as error:
                self._say(error.message)
                continue
            for target in targets:
                if not target.simulated:
                    found.setdefault((target.host.name, target.model.name), []).append(target)
        return [each[self._turn % len(each)] for each in found.values()]

    async def probe(self, target: Target) -> None:
        """Ask a target, unless it is to be left alone or its last probe is still open."""
        place = (target.host.name, target.model.name)
        if place in self._open or not self._health.admits(target, self._clock.monotonic()):
            return
        self._open.add(place)  # before anything is waited for, so that there is one at a time
        try:
            await self._ask(target)
        finally:
            self._open.discard(place)

    async def _ask(self, target: Target) -> None:
        try:
            call = await self._call(target)
        except GatewayError as error:
            self._say(error.message)
            return
        sink = _Sink()
        alone = msgspec.structs.replace(target, steered=False)  # the one that is asked is chosen
        self._means.start(self._pipeline.serve(call, sink, _Only(alone)), call)
        await sink.ended.wait()
        self._judge(target, sink)

    async def _call(self, target: Target) -> Call:
        """Return the call of a probe.

        Raises:
            GatewayError: it cannot be made; says why.
        """
        operations = target.model.operations
        operation: Operation = "chat" if "chat" in operations else "embeddings"
        if operation not in operations:
            raise CallerError(f"{target.model.name} makes neither text nor embeddings, so it is not probed.")
        call = Call(self._means.new_id(), operation, self._clock.monotonic())
        call.principal = await self._caller()
        body: dict[str, object] = {"model": target.model.name}
        if operation == "chat":
            body |= {"messages": [{"role": "user", "content": _WORDS}], "max_tokens": _OUTPUT}
        else:
            body["input"] = _WORDS
        parse(msgspec.json.encode(body), call)
        call.model = target.model.name
        return call

    async def _caller(self) -> Principal:
        row = await self._means.key()
        if row is None:
            raise CallerError("The key of probes is gone.")
        refusal, ceiling = halted(row), ceiling_now(row)
        if refusal is not None:
            raise refusal
        assert ceiling is not None  # no admin key has made it
        return principal_of(row, ceiling)

    def _judge(self, target: Target, sink: _Sink) -> None:
        error = sink.error
        failed = isinstance(error, UpstreamError) and error.kind in FAULTS
        served = error is None and sink.status == 200
        if served or failed:
            self._lookout.probed(target, served=served)
        if isinstance(error, QuotaExceeded):
            self._say(_SPENT)
        elif error is not None and not isinstance(error, UpstreamError):
            self._say(error.message)
        else:
            self._say("", made=1, served=int(served))

    def _say(self, paused: str = "", *, made: int = 0, served: int = 0) -> None:
        """Say how it goes, and in the log when that has changed."""
        before = self._lookout.probing or Probing(self._terms.every_s, self._terms.budget)
        if paused and paused != before.paused:
            self._means.log.line("warning", "probes rest", why=paused)
        self._lookout.probing = msgspec.structs.replace(
            before, made=before.made + made, served=before.served + served, paused=paused
        )


class _Only(Routes):
    """The table of models of a probe, as far as a pipeline asks: one target."""

    def __init__(self, target: Target) -> None:
        self.key_rules: Mapping[str, KeyRules] = {}
        self._wanted = target

    def candidates(self, model: str, book: Book, at: int, tier: str = "") -> tuple[Target, ...]:
        """Return it."""
        del model, book, at, tier
        return (self._wanted,)

    def resold(self, targets: tuple[Target, ...], ppm: int) -> tuple[Target, ...]:
        del ppm
        """Return them as they are: the house buys from itself."""
        return targets


class _Sink:
    """Where a probe's answer goes. Implements `ports.Sink`."""

    gone = False
    started = False

    def __init__(self) -> None:
        self.status = 0
        self.error: GatewayError | None = None
        self.ended = asyncio.Event()

    def start(self, status: int, _headers: Headers, _length: int | None) -> None:
        """Note the status."""
        self.status = status

    def whole(self, status: int, _lines: bytes, _body: bytes) -> None:
        """Note the status of a whole answer."""
        self.status = status
        self.finish()

    def write(self, _data: bytes) -> None:
        """Leave it."""

    def finish(self) -> None:
        """End it."""
        self.ended.set()

    async def drained(self) -> None:
        """Never wait."""

    def on_gone(self, _callback: Callable[[], None]) -> None:
        """It never goes."""

    def on_quiet(self, _callback: Callable[[], None]) -> None:
        """It needs no sign of life."""

    def abort(self) -> None:
        """End it."""
        self.ended.set()


class _Verdicts:
    """What a pipeline renders for callers, kept for the prober. Implements `pipeline.Answers`."""

    def head(self, _call: Call, _target: Target, _tab: Tab) -> bytes:
        """Return no headers."""
        return b""

    early_head = head

    def refuse(self, _call: Call, error: GatewayError, sink: Sink, *, shown: bool = False) -> None:
        """Keep the error."""
        del shown
        assert isinstance(sink, _Sink)
        sink.error = error
        sink.finish()

    break_off = refuse
