"""How long a sound is, as its own head says: WAV, FLAC and MP3; and how long any file can be at most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from headgate.wire.forms import Buffer

_SLOWEST: Final = 250  # bytes per second: speech codecs do not go below
_MP3_SLOWEST: Final = 1_000  # 8 kbit/s is the lowest rate of the format
_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def length_of(data: Buffer) -> float | None:
    """Return the seconds of a sound; None where its head does not say."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return _wav(data)
    if data[:4] == b"fLaC" and len(data) >= 26:
        packed = int.from_bytes(data[18:26])
        rate, samples = packed >> 44, packed & (1 << 36) - 1
        return samples / rate if rate and samples else None
    return None


def longest_of(data: Buffer) -> float:
    """Return an upper bound of the seconds of a sound."""
    exact = length_of(data)
    if exact is not None:
        return exact
    mp3 = data[:3] == b"ID3" or (len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2)
    return len(data) / (_MP3_SLOWEST if mp3 else _SLOWEST)


def likely_of(data: Buffer) -> float:
    """Return a guess of the seconds of a sound: an MP3 by its first frame, others at 32 kbit/s."""
    exact = length_of(data)
    return exact if exact is not None else len(data) / (_mp3_rate(data) or 4_000)


def _wav(data: Buffer) -> float | None:
    at, rate = 12, 0
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"fmt ":
            rate = int.from_bytes(data[at + 16 : at + 20], "little")
        elif kind == b"data":
            return (len(data) - at - 8) / rate if rate else None  # writers of streams do not know the size
        at += 8 + size + size % 2
    return None


def _mp3_rate(data: Buffer) -> int:
    """Return the bytes per second of an MP3's first frame; 0: it is none."""
    at = 0
    if data[:3] == b"ID3" and len(data) > 10:
        at = 10 + (data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9])
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2 or head[2] >> 4 == 15:
        return 0
    table = _MPEG1 if head[1] & 0x18 == 0x18 else _MPEG2
    return table[head[2] >> 4] * 125
