"""A whole worker in this process, before a provider that does what a test says, with short deadlines.

`async with worker(folder, upstream.base_url) as gateway` starts it with a finite cap; when it ends, no
call is open, no connection is leaked, nothing is held, and what the cap has spent is what the books say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiktoken

from headgate.admission.purse import Slice
from headgate.app import App
from headgate.config import ServeOptions, load
from headgate.identity.keys import mint_key
from headgate.money.amounts import parse_cap
from headgate.ports import SystemClock
from headgate.process.counting import LocalCounter
from headgate.stores.sql.bootstrap import prepare, put_flag_budget
from headgate.stores.sql.check import check
from headgate.stores.sql.database import connect
from headgate.stores.sql.probes import put_probes
from headgate.values import Book, Target

# Deadlines in seconds where a test waits for one; elsewhere they are so long that a slow machine keeps them.
SHORT = {"connect_s": 0.4, "first_byte_s": 0.5, "between_frames_s": 0.5, "total_s": 2.0}
LONG = dict.fromkeys(SHORT, 20.0)
TOTAL_S = SHORT["total_s"]
GRACE_S = 1.0  # no request may end later than its deadline and this
PROMPT = "Say hello"
# Tokens of `PROMPT` as one user message, and of the first token of a canned answer: exact, and estimated.
COUNTED = {"gpt-4o-mini": (9, 1), "scripted-1": (10, 2)}
MODELS = tuple(COUNTED)  # of `openai`, and of a compatible host whose answers are put right
# Nano-USD per token of every model here.
INPUT, OUTPUT = 150, 600

_SETTINGS = """
[server]
port = 0
drain_s = 2.0
[deadlines]
{deadlines}
[[providers]]
name = "openai"
base_url = "{base_url}"
api_key = "sk-canary"
[[providers]]
name = "compatible"
base_url = "{base_url}"
api_key = "sk-canary"
models = ["scripted-*"]
{hangup}
[[prices.rows]]
model = "*"
input = 0.15
output = 0.6
"""


# Of all workers of this process, one after the other: each would take 60 MB and a third of a second.
_LOADED: dict[str, tiktoken.Encoding] = {}

ONE_ATTEMPT = "\n[retries]\nattempts = 1\n[breaker]\nrow = 0\n"  # a fault is what the caller sees


@dataclass(frozen=True, slots=True)
class Reply:
    """What a caller got: the body without its framing; `whole` when the framing was complete."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool
    took_s: float

    @property
    def events(self) -> list[bytes]:
        """The payloads of a stream."""
        frames = self.body.split(b"\n\n")
        assert frames.pop() == b"", self.body[-200:]
        assert all(frame.startswith(b"data: ") for frame in frames), self.body
        return [frame[6:] for frame in frames]

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]


@dataclass(frozen=True, slots=True)
class Booked:
    """A call in the books."""

    status: int
    input: int
    output: int
    charge: int
    absorbed: int
    hold: int
    estimated: bool


def chat(*, stream: bool = False, model: str = MODELS[0], **more: Any) -> bytes:
    """A request's body."""
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 100}
    return json.dumps(body | ({"stream": True} if stream else {}) | more).encode()


class Pulse:
    """How long this process was kept from running by others: what it computed itself is no excuse."""

    def __init__(self) -> None:
        self.kept_s = 0.0

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Beat until the block ends."""
        task = asyncio.create_task(self.beat())
        try:
            yield
        finally:
            task.cancel()

    async def beat(self) -> None:
        while True:
            began, busy = time.monotonic(), time.process_time()
            await asyncio.sleep(0.005)
            late_s = time.monotonic() - began - 0.005 - (time.process_time() - busy)
            self.kept_s += max(0.0, late_s - 0.002)


class Worker:
    """The gateway and a key for it."""

    def __init__(self, app: App, key: str, folder: Path) -> None:
        self.app = app
        self.key = key
        self.pulse = Pulse()
        self._folder = folder

    @property
    def address(self) -> tuple[str, int]:
        return self.app.server.addresses[0]

    @property
    def base_url(self) -> str:
        host, port = self.address
        return f"http://{host}:{port}/v1"

    def request(self, body: bytes, path: str = "/v1/chat/completions", more: str = "") -> bytes:
        """The bytes of one request, after whose answer the connection closes; `more`: lines of its head."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {self.key}\r\n{more}"
            f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def ask(
        self, body: bytes, path: str = "/v1/chat/completions", within_s: float = 30.0, more: str = ""
    ) -> Reply:
        """One request, read to the end of its connection; what others kept us from it is not in its time."""
        began, kept_s = time.monotonic(), self.pulse.kept_s
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(*self.address)
            try:
                writer.write(self.request(body, path, more))
                raw = await reader.read()
            finally:
                writer.close()
        return parse(raw, time.monotonic() - began - (self.pulse.kept_s - kept_s))

    async def warm(self) -> None:
        """Load the tokenizer before time is measured: that once stops the loop for some tenths of a second."""
        await self.app.pipeline._stages.counter.output_tokens("warm", self.target)

    @property
    def target(self) -> Target:
        """Where a call for the first model goes."""
        return self.app.routes.candidates(MODELS[0], Book.REAL, self.app.clock.wall())[0]

    async def idle(self, within_s: float = 2.0) -> None:
        """Wait until no call is open."""
        async with asyncio.timeout(within_s):
            while self.app.calls.runs:
                await asyncio.sleep(0.001)

    async def books(self) -> dict[str, Booked]:
        """Every settled call by its request id; a call is there once, or this fails."""
        await self.idle(15.0)
        await self.app.drain.flush()
        sql = connect(self._folder, read_only=True)
        try:
            rows = sql.execute(
                "SELECT call, status, input, output, charge, absorbed, hold, flags FROM calls"
            ).fetchall()
            settlements = sql.execute("SELECT call FROM entries WHERE kind = 1").fetchall()
        finally:
            sql.close()
        assert len(set(settlements)) == len(settlements)
        assert len({row[0] for row in rows}) == len(rows)
        assert {call for call, *_, charge, _, _, _ in rows if charge} == {call for (call,) in settlements}
        return {"req_" + row[0].hex(): Booked(*row[1:7], estimated=bool(row[7] & 1)) for row in rows}

    async def lost(self) -> list[tuple[int, int, int]]:
        """Attempts that came to nothing: number, input and output tokens."""
        await self.books()
        sql = connect(self._folder, read_only=True)
        try:
            return list(sql.execute("SELECT attempt, input, output FROM lost ORDER BY call, attempt"))
        finally:
            sql.close()

    async def booked(self, reply: Reply) -> Booked | None:
        """What the books say of one reply."""
        return (await self.books()).get(reply.request_id)

    @property
    def slices(self) -> list[Slice]:
        """What this worker has of each pot, once what its keys hold together is put back."""
        purse = self.app._budgets._purse
        purse.gather()
        return list(purse._slices.values())

    @property
    def held(self) -> int:
        """Nano-USD that open calls hold."""
        return sum(own.held for own in self.slices)

    @property
    def spent(self) -> int:
        """Nano-USD that the cap has spent; one that is gone is still known for a moment."""
        return sum(own.drawn for own in self.slices if not own.retired)

    async def check(self) -> None:
        """See that nothing is left of the calls so far but their settlements."""
        books = await self.books()
        assert self.held == 0
        assert self.spent == sum(row.charge for row in books.values())
        assert check(self._folder, self.app.clock.wall()).findings == []
        assert all(row.charge <= row.hold for row in books.values())
        transport = self.app.outward.transport
        assert transport.open == transport.idle, "a connection is neither idle nor closed"
        assert not transport.watched


def parse(raw: bytes, took_s: float = 0.0) -> Reply:
    """Read one HTTP answer."""
    head, sign, body = raw.partition(b"\r\n\r\n")
    assert sign, f"no answer: {raw!r}"
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    whole = True
    if headers.get("transfer-encoding") == "chunked":
        body, whole = _unchunk(body)
    elif "content-length" in headers:
        whole = len(body) == int(headers["content-length"])
    return Reply(int(first.split()[1]), headers, body, whole, took_s)


def _unchunk(data: bytes) -> tuple[bytes, bool]:
    parts = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return b"".join(parts), data == b"\r\n"
        parts.append(data[:length])
        data = data[length + 2 :]
    return b"".join(parts), False


@contextlib.asynccontextmanager
async def worker(
    folder: Path,
    base_url: str,
    *,
    cap: str = "5/month",
    short: bool = False,
    hangup: str = "cancel",
    extra: str = "",
    more: str = ONE_ATTEMPT,
    ends: bool = True,
) -> AsyncIterator[Worker]:
    """Serve until the block ends, then look that nothing is left over."""
    settings = folder / "headgate.toml"
    settings.write_text(
        _SETTINGS.format(
            base_url=base_url,
            deadlines="\n".join(f"{name} = {limit}" for name, limit in (SHORT if short else LONG).items()),
            hangup=f'hangup = "{hangup}"\n{extra}',
        )
        + more
    )
    data = folder / "data"
    options = ServeOptions(config=str(settings), data=str(data), env_file="")
    config = load(options, environment={})
    clock = SystemClock()
    prepared = prepare(data, clock.wall(), mint_key)
    sql = connect(data)
    amount, unit = parse_cap(cap)
    put_flag_budget(sql, Book.REAL, amount, unit, "UTC", clock.wall())
    put_probes(sql, parse_cap(config.probes.budget) if config.probes.every_s else None, "UTC", clock.wall())
    sql.close()
    app = App(config, prepared.pepper, simulating=False)
    counter = app._stages.counter
    assert isinstance(counter, LocalCounter)
    counter._tokenizers._loaded = _LOADED
    app._stalls._tell = lambda *_: 0.05  # its callers share its loop, which is late by their work, too
    await app.start()
    gateway = Worker(app, prepared.first_key, data)
    try:
        async with gateway.pulse.beating():
            yield gateway
        if ends:  # else something outlives the process
            await gateway.check()
    finally:
        await app.stop()
