"""Bodies of answers from where batches are: no more of them is read than may be."""

from __future__ import annotations

import pytest

from headgate.batch.bodies import Body, Bounded, lines_in
from headgate.errors import UpstreamInterrupted

pytestmark = pytest.mark.anyio


class Endless:
    """A body that comes in pieces, without end."""

    def __init__(self, piece: bytes) -> None:
        self.read_so_far = 0
        self._piece = piece

    async def read(self) -> bytes:
        self.read_so_far += len(self._piece)
        assert self.read_so_far < 1 << 20, "it is read without end"
        return self._piece


class Pieces:
    """A body in some pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._left = [*pieces, b""]

    async def read(self) -> bytes:
        return self._left.pop(0)


async def read(body: Body, most: int, lines: list[bytes]) -> None:
    async for line in lines_in(Bounded(body, most)):
        lines.append(line)


@pytest.mark.parametrize("piece", [b'{"a": 1}\n', b"no line ends here"])
async def test_what_is_longer_than_it_may_be_is_not_read_to_its_end(piece):
    body, lines = Endless(piece), list[bytes]()
    with pytest.raises(UpstreamInterrupted, match="have no end"):
        await read(body, 10_000, lines)
    assert body.read_so_far <= 10_000 + len(piece)
    assert len(lines) == (10_000 // len(piece) if b"\n" in piece else 0)


async def test_what_is_as_long_as_it_may_be_is_read():
    lines = list[bytes]()
    await read(Pieces(b"ab\nc", b"d"), 5, lines)
    assert lines == [b"ab", b"cd"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_lines_are_the_same_however_they_are_cut(size):
    text, lines = b"\n{1}\n\n {22}\n\r\n333\n4", list[bytes]()
    await read(Pieces(*(text[at : at + size] for at in range(0, len(text), size))), 1_000, lines)
    assert lines == [b"{1}", b" {22}", b"333", b"4"]


class Piece(bytes):
    """A piece that nobody adds to what came before: a line of n of them would be copied n times."""

    def __radd__(self, before: bytes) -> bytes:
        raise AssertionError(f"{len(before)} bytes are copied for {len(self)} more")


async def test_a_long_line_is_put_together_once():
    lines = list[bytes]()
    await read(Pieces(*[Piece(1 << 10)] * 1_000, b"\n"), 1 << 26, lines)
    assert [len(line) for line in lines] == [1_000 << 10]
