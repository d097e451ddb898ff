"""AWS's event stream, with botocore's parser as the referee: random messages, cut anywhere, and broken ones."""

from __future__ import annotations

import random
from binascii import crc32
from struct import pack
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer, ParserError as Refused
from tests.providers.bedrock_wire import packed

from headgate.errors import UpstreamInterrupted
from headgate.providers.bedrock.eventstream import Message, Messages

KINDS = (True, False, 7, -1, b"\x00\xff", "text", "字\u2028", "")


def drawn(random_: random.Random) -> bytes:
    """A message with headers of all kinds."""
    names = [f":h{index}" for index in range(random_.randrange(6))]
    headers = {name: random_.choice(KINDS) for name in names}
    return packed(headers, random_.randbytes(random_.choice((0, 1, 3, 40, 300))))


def refereed(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(message.headers, message.payload) for message in buffer]


def ours(pieces: list[bytes]) -> list[Message]:
    reader = Messages()
    found = [message for piece in pieces for message in reader.feed(piece)]
    assert not reader.partial
    return found


@pytest.mark.parametrize("seed", range(40))
def test_random_messages_read_as_botocore_reads_them(seed: int) -> None:
    random_ = random.Random(seed)
    data = b"".join(drawn(random_) for _ in range(random_.randrange(1, 8)))
    known = refereed(data)
    texts = [({n: v for n, v in headers.items() if isinstance(v, str)}, body) for headers, body in known]
    assert [tuple(message) for message in ours([data])] == texts
    assert [tuple(message) for message in ours([data[i : i + 1] for i in range(len(data))])] == texts
    for cut in range(1, len(data), 1 + len(data) // 200):
        assert [tuple(message) for message in ours([data[:cut], data[cut:]])] == texts
    cuts = sorted(random_.sample(range(len(data)), min(9, len(data))))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert [tuple(message) for message in ours(pieces)] == texts


def test_a_changed_bit_is_noticed_wherever_botocore_notices_it() -> None:
    data = packed({":message-type": "event", ":event-type": "metadata"}, b'{"usage":{}}')
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        with pytest.raises(Refused):
            refereed(bytes(changed))
        with pytest.raises(UpstreamInterrupted, match="stream is broken"):
            Messages().feed(bytes(changed))


@pytest.mark.parametrize(
    ("length", "headers"),
    [
        (0, 0),
        (15, 0),
        (16, 1),
        (200, 190),
        (16 + 128 * 1024 + 1, 128 * 1024 + 1),
        (16 + 24 * 2**20 + 1, 0),
        (2**32 - 1, 0),
    ],
)
def test_a_length_that_cannot_be_is_refused_before_it_is_waited_for(length: int, headers: int) -> None:
    prelude = pack(">II", length, headers)
    with pytest.raises(UpstreamInterrupted, match="possible length"):
        Messages().feed(prelude + pack(">I", crc32(prelude)))


@pytest.mark.parametrize(
    "headers",
    [
        b"\x05ab",
        b"\x01a\x07\x00\x05b",
        b"\x01a\x63",
        b"\x01a\x07\x00",
        b"\x01a\x07\x00\x01\xff",
        b"\x01a",
        b"\x02\xff\xff\x00",
    ],
)
def test_headers_that_cannot_be_read(headers: bytes) -> None:
    prelude = pack(">II", 16 + len(headers), len(headers))
    message = prelude + pack(">I", crc32(prelude)) + headers
    with pytest.raises(UpstreamInterrupted, match="header"):
        Messages().feed(message + pack(">I", crc32(message)))


def test_what_is_not_whole_waits() -> None:
    data = packed({}, b"x" * 50)
    reader = Messages()
    assert reader.feed(data[:-1]) == []
    assert reader.partial
    assert reader.feed(data[-1:] + data[:3]) == [Message({}, b"x" * 50)]
    assert reader.partial
