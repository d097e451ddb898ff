"""Named fakes of the ports that surround the pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tests.leases.funded import Funded, NothingMore

from headgate.admission.entrance import Entrance
from headgate.admission.limits import LimitSettings
from headgate.admission.rate import Rates
from headgate.admission.reserve import Reservations
from headgate.attempts import Attempts
from headgate.errors import CallerGone, GatewayError
from headgate.observe.metrics import Metrics
from headgate.pipeline import Pipeline, Stages
from headgate.ports import Head, Mark, Open, Request, Settle
from headgate.providers.registry import CODECS
from headgate.routing.breaker import BreakerTerms
from headgate.routing.doors import Doors
from headgate.routing.health import Health
from headgate.routing.retries import Active, RetryTerms
from headgate.routing.routes import Routes
from headgate.routing.trials import Trials
from headgate.settle import Ledger
from headgate.steering import Steering
from headgate.values import Book, Call, Host, KeyRules, Model, Prices, Principal, Target

NOW = 1_790_000_000_000_000
PRICES = Prices(input=1_000_000, output=2_000_000, cached_input=1_000_000, reasoning=2_000_000)
WHO = Principal(key=1, project=2, account=3)


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_us = NOW
        self.now_ns = 0

    def wall(self) -> int:
        return self.now_us

    def monotonic(self) -> int:
        return self.now_ns


class MemoryJournal:
    """Keeps the records."""

    def __init__(self) -> None:
        self.records: list[Open | Mark | Settle] = []
        self.accepting = True
        self.open = self.mark = self.settle = self.records.append

    def settled(self) -> list[Settle]:
        return [record for record in self.records if isinstance(record, Settle)]

    def opened(self) -> list[Open]:
        return [record for record in self.records if isinstance(record, Open)]


class ListSink:
    """Keeps what the caller would see."""

    def __init__(self, gone_after: int | None = None) -> None:
        self.gone = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.finished = False
        self.started = False
        self.quiet: Callable[[], None] | None = None
        self.journal_at_finish: list[object] = []
        self._gone_after = gone_after
        self._callbacks: list[Callable[[], None]] = []

    def start(self, status: int, headers: Sequence[tuple[bytes, bytes]], length: int | None) -> None:
        self.status = status
        self.started = True
        self.headers = {name.decode(): value.decode() for name, value in headers}

    def write(self, data: bytes) -> None:
        self.body += data
        if self._gone_after is not None and self.body.count(b"data:") >= self._gone_after:
            self.hang_up()

    def finish(self) -> None:
        self.finished = True

    def whole(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self.start(status, headers, len(body))
        self.write(body)
        self.finish()

    def abort(self) -> None:
        self.gone = True

    async def drained(self) -> None:
        await asyncio.sleep(0)

    def on_gone(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def on_quiet(self, callback: Callable[[], None]) -> None:
        self.quiet = callback

    def hang_up(self) -> None:
        if not self.gone:
            self.gone = True
            for callback in self._callbacks:
                callback()


class Script:
    """An exchange that plays a list: bytes, an exception to raise, or None to hang."""

    def __init__(self, status: int, steps: Sequence[bytes | Exception | None], reused: bool = False) -> None:
        self.status = status
        self.steps = list(steps)
        self.reused = reused
        self.sent = False
        self.request: Request | None = None
        self.aborted = asyncio.Event()
        self.released = False

    def send(self, request: Request) -> None:
        self.sent = True
        self.request = request

    async def head(self) -> Head:
        if self.steps and isinstance(self.steps[0], GatewayError) and self.status == 0:
            raise self.steps[0]
        return Head(self.status, ())

    async def read(self) -> bytes:
        if self.aborted.is_set():
            raise CallerGone
        await asyncio.sleep(0)
        if not self.steps:
            return b""
        step = self.steps.pop(0)
        if step is None:
            await self.aborted.wait()
            raise CallerGone
        if isinstance(step, Exception):
            raise step
        return step

    def whole(self) -> None:
        """Nothing is here at once."""

    def abort(self) -> None:
        self.aborted.set()

    def release(self) -> None:
        self.released = True


class Scripts:
    """A transport that hands out scripts in order."""

    def __init__(self, *scripts: Script | GatewayError) -> None:
        self.scripts = list(scripts)
        self.used: list[Script] = []
        self.targets: list[Target] = []

    async def acquire(self, target: Target) -> Script:
        self.targets.append(target)
        script = self.scripts.pop(0)
        if isinstance(script, GatewayError):
            raise script
        self.used.append(script)
        return script

    async def close(self) -> None:
        """Nothing is open."""


class WordCounter:
    """Counts words: enough to see which count was used."""

    async def input_tokens(self, call: Call, target: Target) -> int:
        return len(bytes(call.members["messages"]).split())

    async def longest_input(self, call: Call, target: Target) -> int:
        return await self.input_tokens(call, target)

    async def input_bound(self, call: Call, target: Target) -> int:
        return await self.input_tokens(call, target) + 8

    async def output_tokens(self, text: str, target: Target) -> int:
        return len(text.split())


class PlainAnswers:
    """Errors as text; `told` keeps them."""

    def __init__(self) -> None:
        self.told: list[GatewayError] = []

    def head(self, call, target, tab):
        return [(b"x-headgate-cost", str(tab.charge).encode())]

    def refuse(self, call, error, sink) -> None:
        self.told.append(error)
        sink.start(error.http_status, [(b"x-code", str(error.code).encode())], None)
        sink.write(error.message.encode())
        sink.finish()

    def break_off(self, call, error, sink, *, shown) -> None:
        sink.write(b"data: ERROR " + error.message.encode() + b"\n\n")
        sink.finish()


class NoPoints:
    def hit(self, name: str) -> None:
        """Pass."""


class FixedRoutes:
    resold = Routes.resold

    def __init__(self, *targets: Target) -> None:
        self.targets = targets
        self.key_rules: dict[str, KeyRules] = {}
        self._resold: dict = {}

    def candidates(self, model: str, book: Book, at: int, tier: str = "") -> tuple[Target, ...]:
        return self.targets


def target(name: str = "openai", **facts: object) -> Target:
    host = Host(name=name, base_url="http://h/v1", deviates=False)
    model = Model(name="gpt-4o", **({"max_output": 100, "context_window": 10_000} | facts))  # type: ignore[arg-type]
    return Target(host=host, model=model, prices=PRICES, costs=PRICES, base_path="/v1")


class Bench:
    """A pipeline among fakes."""

    def __init__(
        self,
        *scripts: Script | GatewayError,
        cap: int | None = None,
        key_rules: dict | None = None,
        retries: RetryTerms | None = None,
    ) -> None:
        self.clock = HandClock()
        self.key_rules = key_rules or {}
        self.changed: list[tuple[str, str]] = []
        self.health = Health(
            BreakerTerms(), lambda: 0.0, lambda place, news: self.changed.append((place.provider, news))
        )
        self.doors = Doors(self.clock, 1, lambda: 0.0)
        self.attempts = Attempts(
            retries or RetryTerms(attempts=1),
            self.health,
            self.doors,
            self.clock,
            lambda: 0.0,
            lambda _: Active(0, 0),
        )
        self.journal = MemoryJournal()
        self.cap = Funded(NOW, *([("account", cap)] if cap is not None else ()))
        self.budgets = self.cap.budgets
        self.metrics = Metrics()
        self.transport = Scripts(*scripts)
        self.faults: list[BaseException] = []
        self.answers = PlainAnswers()
        counter = WordCounter()
        rates = Rates()
        ledger = Ledger(self.journal, self.budgets, rates, self.metrics, self.clock)
        self.pipeline = Pipeline(
            Stages(
                ledger=ledger,
                entrance=Entrance(rates, self.clock, LimitSettings()),
                reservations=Reservations(self.budgets, NothingMore(), self.clock, counter),
                transport=self.transport,
                simulator=self.transport,
                codecs=CODECS,
                counter=counter,
                answers=self.answers,
                attempts=self.attempts,
                steering=Steering(self.clock, lambda: 0.0, Trials(self.metrics, alone=True)),
                failpoints=NoPoints(),
                fault=lambda call, fault: self.faults.append(fault),
            )
        )

    async def serve(self, call: Call, sink: ListSink, *targets: Target) -> ListSink:
        call.principal = call.principal or WHO
        routes = FixedRoutes(*(targets or (target(),)))
        routes.key_rules = self.key_rules
        await asyncio.wait_for(self.pipeline.serve(call, sink, routes), 5)
        assert self.faults == []
        return sink
