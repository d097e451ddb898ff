"""`make drain` in short; and what it looks for is found."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from tests.drain.clients import Stream
from tests.drain.rounds import Terms, Verdict, _judge, rolling_restart, stop_under_load

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
TERMS = Terms(1.0, 1.5, slack_s=20.0)  # this machine may be busy
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_who_stops_lets_the_open_streams_end(workers: int, tmp_path: Path) -> None:
    verdict = asyncio.run(stop_under_load(tmp_path, workers, 12, TERMS))
    assert verdict.wrong == []
    assert verdict.figures["calls while it leaves"] > 3


def test_a_rolling_restart_fails_no_call(tmp_path: Path) -> None:
    verdict = asyncio.run(rolling_restart(tmp_path, 2, 3, TERMS))
    assert verdict.wrong == []
    assert verdict.figures["calls"] > 10


def framed(*events: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events) + end


DONE, ERROR = b"data: [DONE]\n\n", b'data: {"error":{"message":"The gateway is shutting down"}}\n\n'


@pytest.mark.parametrize(
    ("short", "long", "wrong"),
    [
        (framed(DONE), framed(ERROR), 0),
        (framed(ERROR), framed(ERROR), 1),
        (framed(DONE, end=b""), framed(ERROR), 1),
        (framed(DONE), framed(b"data: {}\n\n", end=b""), 1),
        (framed(DONE), framed(b"data: {}\n\n", DONE), 2),
    ],
)
def test_a_stream_that_ends_in_another_way_is_found(short: bytes, long: bytes, wrong: int) -> None:
    verdict = Verdict(figures={"not ready after": 0.1, "exit after": 1.0})
    _judge(verdict, [Stream(1, raw=short), Stream(2, raw=long)], [], Terms(1.0, 1.0), 1)
    assert len(verdict.wrong) == wrong


def test_what_comes_too_late_is_found() -> None:
    verdict = Verdict(figures={"not ready after": 1.1, "exit after": 4.1})
    _judge(verdict, [], [Stream(1, refused=True)], Terms(1.0, 1.0), 1)
    assert len(verdict.wrong) == 3
