"""Pictures that are real: a PNG of any size, its colours and shapes from what was asked for."""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import Final

MOST_PIXELS: Final = 4096 * 4096
_GRID: Final = 8  # blocks on a side
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def png(seed: bytes, width: int, height: int, shown: int = _GRID) -> bytes:
    """Return a picture: a grid of coloured blocks that mirrors left and right, from a seed alone.

    Args:
        seed: equal seeds make equal pictures.
        width: in pixels.
        height: in pixels.
        shown: how many rows of blocks are there yet; the others are grey.
    """
    drawn = hashlib.shake_128(seed).digest(_GRID * _GRID * 3)
    rows = []
    for line in range(_GRID):
        colours = []
        for place in range(_GRID):
            at = 3 * (line * _GRID + min(place, _GRID - 1 - place))
            colours.append(drawn[at : at + 3] if line < shown else b"\x88\x88\x88")
        edges = [place * width // _GRID for place in range(_GRID + 1)]
        scan = b"\0" + b"".join(colours[place] * (edges[place + 1] - edges[place]) for place in range(_GRID))
        rows.append(scan * ((line + 1) * height // _GRID - line * height // _GRID))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", head),
            _chunk(b"IDAT", zlib.compress(b"".join(rows), 1)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
