"""Where the input of a batch is cut into parts that their provider takes: none too large, none too small."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from headgate.batch.translation import Span, Translation
from headgate.providers.batches import OpenAIBatches
from headgate.providers.bedrock import InvocationJobs
from headgate.values import Book, Principal
from headgate.wire.batchjobs import BatchJob


class Plain(Translation):
    """Sends lines as they are, but for those that cannot be sent."""

    async def _line(self, data: bytes, number: int, principal: Principal) -> bytes:
        return b"" if data.startswith(b"bad") else data


class Wire(InvocationJobs):
    __slots__ = ("most_bytes",)

    def __init__(self, most_bytes: int) -> None:
        super().__init__()
        self.most_bytes = most_bytes


def input_of(lines: list[bytes]) -> Any:
    """Return a process that has one file, and the numbers of lines that it was told cannot be sent."""
    marked: list[int] = []

    async def read() -> AsyncIterator[bytes]:
        yield b"\n".join(lines) + b"\n"

    async def find(*_: object) -> object:
        return "the file"

    async def principal(*_: object) -> Principal:
        return Principal(account=1, project=1, key=1)

    async def keep_answers(_: object, answers: list[tuple[int, bytes]]) -> bool:
        marked.extend(n for n, _ in answers)
        return True

    files = SimpleNamespace(find=find, read=lambda _: read())
    store = SimpleNamespace(keep_answers=keep_answers)
    return SimpleNamespace(principal=principal, files=files, store=store, largest=1_000), marked


JOB = BatchJob(
    id="batch_0a", call=bytes(16), account=1, project=1, key=1, member=0, book=Book.REAL,
    endpoint="/v1/chat/completions", input_file="file-ours", created_at=1, expires_at=1,
)  # fmt: skip


async def cut(
    lines: list[bytes], most: int, least: int, most_bytes: int = 1_000
) -> list[tuple[int, list[bytes]]]:
    """Return the last line of each part, and what was written down of it, as it is made and made again."""
    process, marked = input_of(lines)
    wire = Wire(most_bytes)
    parts: list[tuple[int, list[bytes]]] = []
    begin = 0
    while True:
        spool = io.BytesIO()
        held: Any = SimpleNamespace(job=JOB)
        sheet = await Plain(process, held, held, wire).write(spool, Span(begin, 0, most, least))
        told = spool.getvalue()
        assert sheet.lines == len(told.split(b"\n")) * bool(told)
        again = io.BytesIO()
        once = await Plain(process, held, held, wire).write(again, Span(begin, sheet.until, most, least))
        assert (again.getvalue(), once.lines, once.until) == (told, sheet.lines, sheet.until)
        parts.append((sheet.until, told.split(b"\n") if told else []))
        begin = sheet.until
        if sheet.last:
            break
    assert set(marked) == {n for n, line in enumerate(lines, 1) if line.startswith(b"bad")}
    assert [line for _, each in parts for line in each] == [
        line for line in lines if not line.startswith(b"bad")
    ]
    return parts


def sizes(parts: list[tuple[int, list[bytes]]]) -> list[int]:
    return [len(lines) for _, lines in parts]


GOOD = [b"line %03d" % n for n in range(1, 61)]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("count", "most", "least", "made"),
    [
        (60, 50, 1, [50, 10]),  # nothing is too small
        (60, 50, 10, [50, 10]),
        (60, 50, 20, [40, 20]),
        (51, 50, 20, [31, 20]),
        (60, 25, 12, [25, 23, 12]),
        (50, 50, 20, [50]),
        (60, 30, 25, [30, 30]),
        (35, 30, 20, [30, 5]),  # it cannot be cut so that both have enough
    ],
)
async def test_a_part_leaves_so_many_lines_that_the_next_one_is_taken(
    count: int, most: int, least: int, made: list[int]
) -> None:
    assert sizes(await cut(GOOD[:count], most, least)) == made


@pytest.mark.anyio
async def test_a_part_that_is_full_of_bytes_leaves_as_many() -> None:
    parts = await cut(GOOD[:26], 1_000, 6, most_bytes=len(GOOD[0] + b"\n") * 20)
    assert sizes(parts) == [20, 6]
    parts = await cut(GOOD[:23], 1_000, 6, most_bytes=len(GOOD[0] + b"\n") * 20)
    assert (sizes(parts), [until for until, _ in parts]) == ([17, 6], [17, 23])


@pytest.mark.anyio
async def test_lines_that_cannot_be_sent_are_not_counted() -> None:
    lines = [*GOOD[:20], *[b"bad"] * 7, *GOOD[20:22], b"bad", GOOD[22], b"bad"]
    assert sizes(await cut(lines, 20, 6)) == [17, 6]
    lines = [*GOOD[:17], b"bad", b"bad", *GOOD[17:23]]
    parts = await cut(lines, 20, 6)
    assert (sizes(parts), parts[0][0]) == ([17, 6], 19)
    assert sizes(await cut([*GOOD[:20], *[b"bad"] * 9], 20, 6)) == [20, 0]


def test_the_wire_of_most_has_no_least() -> None:
    assert (OpenAIBatches().least_lines, InvocationJobs().least_lines) == (1, 100)
