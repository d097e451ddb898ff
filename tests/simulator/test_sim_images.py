"""The simulator's pictures are PNGs that any reader of the format takes."""

import struct
import zlib

import pytest

from headgate.transport.simulator.pictures import png


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, found = 8, []
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size)[0] == zlib.crc32(kind + body)
        found.append((kind, body))
        at += 12 + size
    return found


@pytest.mark.parametrize(("width", "height"), [(256, 256), (1536, 1024), (10, 13), (1, 1)])
def test_a_picture_is_a_png_of_its_size(width: int, height: int) -> None:
    found = chunks(png(b"a cat", width, height))
    assert [kind for kind, _ in found] == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", found[0][1]) == (width, height, 8, 2, 0, 0, 0)
    assert len(zlib.decompress(found[1][1])) == height * (1 + 3 * width)


def test_a_picture_depends_on_what_was_asked_for_alone() -> None:
    assert png(b"a", 64, 64) == png(b"a", 64, 64) != png(b"b", 64, 64)
    assert png(b"a", 64, 64, shown=4) != png(b"a", 64, 64)
