"""Pure parts: what an event adds to a conversation, what a usage costs, how a WebSocket's frames are read."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, Protocol

from headgate.channels import Socket, SocketLimits
from headgate.live.context import Context
from headgate.money.cost import cost
from headgate.money.prices import PriceBook
from headgate.ports import SystemClock
from headgate.values import Usage
from headgate.wire.realtime import heard, read_client, read_server

# The example of OpenAI's reference for `response.done`.
DONE = {
    "type": "response.done",
    "event_id": "event_CCXHxcMy86rrKhBLDdqCh",
    "response": {
        "object": "realtime.response",
        "id": "resp_CCXHw0UJld10EzIUXQCNh",
        "status": "completed",
        "output": [{"id": "item_1", "type": "message", "content": [{"type": "output_audio"}]}],
        "conversation_id": "conv_CCXHsurMKcaVxIZvaCI5m",
        "max_output_tokens": "inf",
        "usage": {
            "total_tokens": 253,
            "input_tokens": 132,
            "output_tokens": 121,
            "input_token_details": {
                "text_tokens": 119,
                "audio_tokens": 13,
                "image_tokens": 0,
                "cached_tokens": 64,
                "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 0},
            },
            "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
        },
    },
}


def told(usage: dict[str, object]) -> Usage:
    event = {"type": "response.done", "response": {"id": "resp_1", "usage": usage}}
    read = read_server(json.dumps(event).encode()).response
    assert read is not None
    assert read.usage is not None
    return read.usage.read()


def test_openais_own_example_costs_what_its_price_page_says() -> None:
    row = PriceBook.load().find("openai", "gpt-realtime", SystemClock().wall())
    assert row is not None
    usage = told(DONE["response"]["usage"])  # type: ignore[index]
    assert usage == Usage(132, 121, cached_tokens=64, input_audio_tokens=13, output_audio_tokens=91)
    # USD per million: text 4, cached 0.40, audio 32; out: text 16, audio 64
    micros = 55 * 4 + 64 * 0.4 + 13 * 32 + 30 * 16 + 91 * 64
    assert cost(usage, row.prices) == round(micros * 1000)


def test_what_is_cached_of_audio_and_images_has_its_own_price() -> None:
    row = PriceBook.load().find("openai", "gpt-realtime-mini", SystemClock().wall())
    assert row is not None
    cached = {"text_tokens": 10, "audio_tokens": 20, "image_tokens": 5}
    details = {
        "text_tokens": 100, "audio_tokens": 60, "image_tokens": 40, "cached_tokens": 35,
        "cached_tokens_details": cached,
    }  # fmt: skip
    usage = told({"input_tokens": 200, "output_tokens": 0, "input_token_details": details})
    # 90 text, 40 audio, 35 images; cached: 10 text, 20 audio, 5 images
    micros = 90 * 0.6 + 40 * 10 + 35 * 0.8 + 10 * 0.06 + 20 * 0.3 + 5 * 0.08
    assert cost(usage, row.prices) == round(micros * 1000)


def test_a_transcription_may_be_billed_by_the_second() -> None:
    assert told({"type": "duration", "seconds": 7.2}) == Usage(more=(("second", 8),))


def test_a_conversation_is_never_longer_than_its_bound() -> None:
    context = Context()
    first = context.bound
    event = b'{"type":"input_audio_buffer.append","audio":"%b"}' % (b"A" * 64_000)  # a second of PCM16
    context.tell(*heard(read_client(event), event))
    assert context.bound >= first + 10
    context.commit()
    context.begin("resp_1")
    context.tell(50)  # while it is made
    context.end("resp_1", Usage(500, 100), spoken=0, apart=False)
    assert 650 <= context.bound < 1_000
    context.begin("resp_2")
    context.end("resp_2", Usage(5, 5), spoken=0, apart=True)
    assert context.bound >= 650, "a response outside of the conversation says nothing of it"
    context.begin("resp_3")
    context.end("resp_3", None, spoken=40, apart=False)
    assert context.bound >= 690


class Wire:
    """A pipe that keeps what is written."""

    def __init__(self) -> None:
        self.sent = b""
        self.how = ""
        self.paused = False

    def write(self, data: bytes) -> None:
        self.sent += data

    async def drained(self) -> None:
        return

    def pause(self, *, paused: bool) -> None:
        self.paused = paused

    def close(self) -> None:
        self.how = "closed"

    def abort(self) -> None:
        self.how = "aborted"


def framed(*frames: Frame) -> bytes:
    return b"".join(frame.serialize(mask=True) for frame in frames)


@pytest.mark.anyio
async def test_messages_are_read_however_their_bytes_are_cut() -> None:
    data = framed(
        Frame(Opcode.TEXT, "é".encode()[:1], fin=False),
        Frame(Opcode.PING, b"?"),
        Frame(Opcode.CONT, "é".encode()[1:]),
        Frame(Opcode.TEXT, b"x" * 70_000),
    )
    for size in (1, 7, len(data)):
        wire = Wire()
        socket = Socket(wire, masked=False, limits=SocketLimits())
        for start in range(0, len(data), size):
            socket.feed(data[start : start + size])
        assert await socket.receive() == "é".encode()
        assert await socket.receive() == b"x" * 70_000
        assert wire.sent == b"\x8a\x01?", "the ping is answered"
        socket.abort()
        assert await socket.receive() is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (Frame(Opcode.BINARY, b"x"), 1003),
        (Frame(Opcode.TEXT, b"\xff"), 1007),
        (Frame(Opcode.TEXT, b"x" * 2_000), 1009),
        (Frame(Opcode.CONT, b"x"), 1002),
    ],
)
async def test_what_is_not_allowed_ends_the_socket_by_its_code(frame: Frame, code: int) -> None:
    wire = Wire()
    socket = Socket(wire, masked=False, limits=SocketLimits(max_message_bytes=1_000, closing_s=0.05))
    socket.feed(framed(frame))
    reader = Protocol(CLIENT)
    reader.receive_data(wire.sent)
    assert reader.close_rcvd is not None
    assert reader.close_rcvd.code == code
    assert socket.gone
    assert await socket.receive() is None
    async with asyncio.timeout(5):
        while not wire.how:
            await asyncio.sleep(0.01)


@pytest.mark.anyio
async def test_a_silent_side_is_asked_and_then_given_up() -> None:
    wire = Wire()
    socket = Socket(wire, masked=False, limits=SocketLimits(ping_s=0.1, silence_s=0.4))
    async with asyncio.timeout(10):
        assert await socket.receive() is None
    assert wire.sent.startswith(b"\x89\x00")
    assert wire.how == "aborted"


@pytest.mark.anyio
async def test_what_nobody_reads_is_not_taken_from_the_wire() -> None:
    wire = Wire()
    socket = Socket(wire, masked=False, limits=SocketLimits())
    for _ in range(5):
        socket.feed(framed(Frame(Opcode.TEXT, b"x" * 100_000)))
    assert wire.paused
    while wire.paused:
        await socket.receive()
    socket.abort()
