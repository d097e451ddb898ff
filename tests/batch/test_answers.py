"""What the answers of lines take of memory together is bounded, however long they are and wherever they wait."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from tests.batch.office import EMBEDDINGS, Office, Provider
from tests.path.fakes import Script

from headgate.batch import answers
from headgate.batch.answers import Answers
from headgate.errors import Unavailable
from headgate.http.parse import parse
from headgate.ports import Head
from headgate.values import Book, Call, Operation, Target
from headgate.wire.batchjobs import Claim, Finished, Returned

pytestmark = pytest.mark.anyio
TEXTS, NUMBERS, LINES = 10, 1_000, 12
MOST = 1 << 20


def asked(n: int) -> bytes:
    body = {"model": "gpt-4o", "input": [f"text {n}"] * TEXTS, "dimensions": NUMBERS}
    return json.dumps({"custom_id": f"c{n}", "method": "POST", "url": EMBEDDINGS, "body": body}).encode()


class Embedding(Script):
    """Answers with vectors, once its provider lets it; tells the provider how long that answer is."""

    def __init__(self, provider: Embedder) -> None:
        super().__init__(200, [])
        self._provider = provider

    async def head(self) -> Head:
        assert self.request is not None
        texts = json.loads(bytes(self.request.body))["input"]
        rows = [
            {"object": "embedding", "index": at, "embedding": [-0.012345678901234 - at] * NUMBERS}
            for at in range(len(texts))
        ]
        usage = {"prompt_tokens": 10, "total_tokens": 10}
        body = json.dumps({"object": "list", "data": rows, "model": "m", "usage": usage}).encode()
        self._provider.sizes.append(len(body))
        await self._provider.gate.wait()
        self.steps = [body]
        return await super().head()


class Embedder(Provider):
    """Answers embeddings, and knows how long all its answers were."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    async def acquire(self, target: Target) -> Script:
        self.asked += 1
        return Embedding(self)


@pytest.fixture
async def office(world: Any, monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.setattr(answers, "MOST", MOST)
    made = Office(world, Embedder(), concurrency=32)
    made.endpoint = EMBEDDINGS
    made.files.data = b"\n".join(map(asked, range(1, LINES + 1))) + b"\n"
    return made


def held(office: Office) -> int:
    """The bytes of all answers that were asked for and are not kept."""
    assert isinstance(office.provider, Embedder)
    return sum(office.provider.sizes) - sum(len(line.output) for line in office.store.finished)


async def test_answers_that_were_asked_for_and_are_not_kept_take_no_more_than_they_may(
    office: Office,
) -> None:
    await office.begun(LINES)
    most = 0
    async with office.serving():
        while (kept := await office.world.store.find(2, Book.REAL, "batch_1")).status != "completed":  # type: ignore[union-attr]
            most = max(most, held(office))
            await asyncio.sleep(0)
    assert kept is not None
    assert kept.counts == (LINES, LINES, 0)
    one = len(office.store.finished[0].output)
    assert 2 * one <= most <= MOST, "several at once, and no more than there is room for"
    assert sum(len(line.output) for line in office.store.finished) > 2 * MOST
    assert office.runner._crew._answers.taken == 0


async def test_while_outputs_cannot_be_kept_no_more_answers_are_asked_for(office: Office) -> None:
    await office.begun(LINES)
    office.store.before["finish"] += [Unavailable("The database is away.")] * 3
    async with office.serving():
        await office.until(lambda: len(office.troubles) > 0)
        await asyncio.sleep(0.2)
        assert isinstance(office.provider, Embedder)
        assert sum(office.provider.sizes) <= MOST
        kept = await office.ended()
    assert kept.counts == (LINES, LINES, 0)
    assert office.provider.asked == LINES


async def test_lines_that_wait_for_room_wait_again_when_we_stop(office: Office) -> None:
    await office.begun(LINES)
    gate = office.provider.next_gate()
    gate.clear()
    async with office.serving() as runner:
        await office.until(lambda: office.provider.asked >= 2)
        await asyncio.sleep(0.1)
        began = office.provider.asked
        assert 2 <= began < 8, "others wait for room"
        office.stopping = True
        closing = asyncio.ensure_future(runner.close())
        await asyncio.sleep(0.7)
        gate.set()
        await closing
    assert office.provider.asked == began
    assert sorted(set(office.states())) == [0, 2]
    assert office.runner._crew._answers.taken == 0


# ── what is expected ────────────────────────────────────────────────────────────────────────────


def claim(n: int, answer: bytes | None = None) -> Claim:
    return Claim(n, 0, 0, f"c{n}", 0, 0, bytes(16), 1, 0, 0, answer=answer)


def call(operation: Operation = "embeddings", **members: Any) -> Call:
    made = Call(bytes(16), operation, 0)
    parse(msgspec.json.encode({"model": "m", **members}), made)
    return made


def done(n: int, size: int) -> Finished:
    return Finished(n, 1, bytes(size), True, 0, ())


@pytest.mark.parametrize(
    ("operation", "members", "least", "most"),
    [
        ("embeddings", {"input": "x"}, 64 << 10, 128 << 10),
        ("embeddings", {"input": ["x"] * 100}, 3_072 * 22 * 100, 3_072 * 26 * 100),
        ("embeddings", {"input": ["x"] * 100, "dimensions": 256}, 256 * 22 * 100, 256 * 26 * 100),
        ("embeddings", {"input": ["x"] * 100, "encoding_format": "base64"}, 3_072 * 5 * 100, 3_072 * 7 * 100),
        ("images", {"prompt": "x", "n": 3}, 3 << 20, 16 << 20),
        ("chat", {"messages": [{"role": "user", "content": "x"}]}, 1, 1 << 20),
    ],
)
async def test_what_an_answer_may_take_is_told_by_its_request(
    operation: Operation, members: dict[str, Any], least: int, most: int, world: Any
) -> None:
    room, batch = Answers(1 << 30, lambda: False), await world.begun(1)
    await room.take(batch, claim(1), call(operation, **members))
    assert least <= room.taken <= most


async def test_what_came_says_how_long_the_next_one_may_be_and_what_is_there_is_known(world: Any) -> None:
    room, batch = Answers(1 << 30, lambda: False), await world.begun(1)
    many, some = call(input=["x"] * 2_000), call(input=["x"] * 200)
    await room.take(batch, claim(1), many)
    room.came(batch, done(1, 2_000_000), many)
    assert room.taken == 2_000_000
    await room.take(batch, claim(2), some)
    assert room.taken == 2_200_000
    await room.take(batch, claim(3, b"x" * 70_000), some)  # its provider's batch has answered
    assert room.taken == 2_270_000
    room.came(batch, Returned(2, 1, 0, 0), some)
    room.give(batch, [done(1, 2_000_000), Returned(2, 1, 0, 0), done(3, 1), done(4, 1)])
    assert room.taken == 0


async def test_a_giant_answer_slows_its_kind_only_until_others_have_come(world: Any) -> None:
    room, batch = Answers(answers.MOST, lambda: False), await world.begun(1)
    short = call("chat", messages=[{"role": "user", "content": "x"}])

    async def run(n: int, size: int) -> int:
        """Run a line; return what was expected of it."""
        await room.take(batch, claim(n), short)
        expected = room.taken
        room.came(batch, done(n, size), short)
        room.give(batch, [done(n, size)])
        return expected

    await run(1, answers.MOST)
    assert await run(2, 700) == answers.MOST, "the next one may be as long"
    expected = [await run(n, 700) for n in range(3, 150)]
    assert expected == sorted(expected, reverse=True)
    assert expected[5] > answers.MOST // 2, "not forgotten at once, as others like it may follow"
    assert expected[-1] < 64 << 10
    assert await run(150, 1 << 20) < 64 << 10
    assert await run(151, 700) == 1 << 20, "what is longer counts at once"
    assert room.taken == 0


async def test_errors_say_nothing_of_how_long_answers_are(world: Any) -> None:
    room, batch = Answers(1 << 30, lambda: False), await world.begun(1)
    many = call(input=["x"] * 1_000)
    for n in (1, 2):
        await room.take(batch, claim(n), many)
        assert room.taken > 1_000 * 3_072 * 22
        refused = Finished(n, 1, bytes(300), False, 0, ())
        room.came(batch, refused, many)
        room.give(batch, [refused])


async def test_thousands_of_short_answers_have_room_at_once(world: Any) -> None:
    room, batch = Answers(answers.MOST, lambda: False), await world.begun(1)
    short = call("chat", messages=[{"role": "user", "content": "x"}])
    await room.take(batch, claim(1), short)
    room.came(batch, done(1, 700), short)
    async with asyncio.timeout(10):
        for n in range(2, 10_002):  # as many as `[batch] concurrency` can be
            await room.take(batch, claim(n), short)
    assert 10_000 * 700 <= room.taken <= answers.MOST


async def test_what_is_known_of_lengths_takes_a_bounded_room(world: Any) -> None:
    room, batch = Answers(answers.MOST, lambda: False), await world.begun(1)
    for n in range(1, 5_001):  # whoever asks chooses the number
        odd = call(input="x", dimensions=n)
        await room.take(batch, claim(n), odd)
        room.came(batch, done(n, 100), odd)
        room.give(batch, [done(n, 100)])
    assert len(room._longest) <= 1_000
    room._longest.clear()
    for n in range(1, 2_001):  # one that comes again and again is not forgotten
        for size, asked in ((7_000_000, call(input=["x"] * 7)), (100, call(input="x", dimensions=n))):
            room.came(batch, done(n, size), asked)
            room.give(batch, [done(n, size)])
    await room.take(batch, claim(1), call(input="x"))
    assert room.taken == 1_000_000


async def test_one_that_is_longer_than_all_may_be_is_alone(world: Any) -> None:
    room, batch = Answers(1_000, lambda: False), await world.begun(1)
    long = call(input=["x"] * 100)
    await room.take(batch, claim(1), long)
    second = asyncio.ensure_future(room.take(batch, claim(2), long))
    await asyncio.sleep(0.05)
    assert not second.done()
    room.give(batch, [done(1, 1)])
    await second
    room.give(batch, [done(2, 1)])
    assert room.taken == 0


async def test_a_long_one_is_not_passed_by_short_ones_for_ever(world: Any) -> None:
    room, batch = Answers(1 << 20, lambda: False), await world.begun(1)
    short, long = call("chat", messages=[{"role": "user", "content": "x"}]), call(input=["x"] * 100)
    await room.take(batch, claim(1), short)
    waits = asyncio.ensure_future(room.take(batch, claim(2), long))
    await asyncio.sleep(0)
    others = [asyncio.ensure_future(room.take(batch, claim(n), short)) for n in range(3, 6)]
    await asyncio.sleep(0.05)
    assert not any(each.done() for each in (waits, *others)), "they came later"
    room.give(batch, [done(1, 1)])
    await waits
    room.give(batch, [done(2, 1)])
    await asyncio.gather(*others)
