"""A moving picture as bytes: an animated GIF (89a) of a bar that crosses a field, as long as was asked."""

from __future__ import annotations

from struct import pack

_COLOURS = bytes((18, 24, 38, 64, 96, 160, 240, 180, 60, 255, 255, 255))  # field, edge, bar, light
_CODE_BITS = 2
_FRAMES_PER_S = 2
_SCALE = 8  # a size of 1280x720 is drawn in 160x90


def film(seconds: int, width: int, height: int) -> bytes:
    """Return the film, in an eighth of the size on either side."""
    width, height = max(8, width // _SCALE), max(8, height // _SCALE)
    count = seconds * _FRAMES_PER_S
    bar = max(2, width // 8)
    parts = [
        b"GIF89a",
        pack("<HHBBB", width, height, 0x80 | _CODE_BITS - 1, 0, 0),
        _COLOURS,
        b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00",  # again and again
    ]
    for index in range(count):
        left = (width - bar) * index // max(count - 1, 1)
        row = bytes(left) + b"\x02" * bar + bytes(width - bar - left)
        parts.append(pack("<BBBBHBB", 0x21, 0xF9, 4, 4, 100 // _FRAMES_PER_S, 0, 0))
        parts.append(pack("<BHHHHB", 0x2C, 0, 0, width, height, 0))
        parts.append(_image(row * height))
    return b"".join([*parts, b"\x3b"])


def _image(pixels: bytes) -> bytes:
    """Return the data of one image: codes in sub-blocks of at most 255 bytes."""
    data = _packed(pixels)
    blocks = [data[start : start + 255] for start in range(0, len(data), 255)]
    return bytes([_CODE_BITS]) + b"".join(bytes([len(block)]) + block for block in blocks) + b"\x00"


def _packed(pixels: bytes) -> bytes:
    """Return pixels as LZW codes, as GIF packs them: the first code in the lowest bits."""
    clear, end = 1 << _CODE_BITS, (1 << _CODE_BITS) + 1
    table = {bytes([code]): code for code in range(clear)}
    size, bits, used = _CODE_BITS + 1, clear, _CODE_BITS + 1
    run = b""
    for pixel in pixels:
        longer = run + bytes([pixel])
        if longer in table:
            run = longer
            continue
        bits |= table[run] << used
        used += size
        table[longer] = len(table) + 2
        if table[longer] == 1 << size:
            size += 1
        if size > 12:
            bits |= clear << used
            used += 12
            table = {bytes([code]): code for code in range(clear)}
            size = _CODE_BITS + 1
        run = longer[-1:]
    bits |= table[run] << used
    used += size
    bits |= end << used
    used += size
    return bits.to_bytes(-(-used // 8), "little")
