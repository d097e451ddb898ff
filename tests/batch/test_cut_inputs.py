"""Inputs of batches are read line by line, however they come."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headgate.batch.reading import lines_of

pytestmark = pytest.mark.anyio


class Piece(bytes):
    """A piece that nobody adds to what came before: a line of n of them would be copied n times."""

    def __radd__(self, before: bytes) -> bytes:
        raise AssertionError(f"{len(before)} bytes are copied for {len(self)} more")


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def read(longest: int, *given: bytes) -> list[tuple[int, bytes | None]]:
    return [each async for each in lines_of(pieces(*given), longest)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_lines_are_the_same_however_they_are_cut(size):
    text = b"a\nbb\r\n\n\r\n ccc\ndddd"
    found = await read(100, *(text[at : at + size] for at in range(0, len(text), size)))
    assert found == [(0, b"a"), (2, b"bb"), (6, b""), (7, b""), (9, b" ccc"), (14, b"dddd")]


@pytest.mark.parametrize(
    ("text", "lines"),
    [(b"", []), (b"\n", [b""]), (b"a", [b"a"]), (b"a\n", [b"a"]), (b"a\r\n", [b"a"]), (b"a\r", [b"a"])],
)
async def test_a_break_at_the_end_begins_no_line(text, lines):
    assert [line for _, line in await read(100, text)] == lines


@pytest.mark.parametrize("size", [1, 4, 100])
async def test_a_line_may_be_as_long_as_may_be(size):
    text = b"abcd\nefgh\n"
    cut = [text[at : at + size] for at in range(0, len(text), size)]
    assert await read(4, *cut) == [(0, b"abcd"), (5, b"efgh")]
    assert await read(4, b"abcd\n", b"efgh", b"i") == [(0, b"abcd"), (5, None)]


async def test_a_line_that_is_too_long_is_the_last_though_its_end_has_come():
    assert await read(4, b"abcd\nefghi\nj\n") == [(0, b"abcd"), (5, None)]


async def test_a_long_line_is_put_together_once():
    found = await read(1 << 26, *[Piece(1 << 10)] * 1_000, b"\nx")
    assert [(at, line and len(line)) for at, line in found] == [(0, 1_000 << 10), ((1_000 << 10) + 1, 1)]
