"""`make storm` in short; and each thing that it looks for is found."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest
from tests.storm.callers import Seen, Tenant
from tests.storm.rounds import COST, Storm, play

TENANT = Tenant(7, "sk", "t1")


def test_nothing_crosses_and_nothing_is_left_over(tmp_path: Path) -> None:
    storm = asyncio.run(play(tmp_path, 1_000, Random(22), tenants=20))
    assert storm.wrong == []
    assert storm.cut > 50
    assert sum(each.left for each in storm.seen) > 50
    assert storm.connections > 10


def answered(canary: str, said: str) -> Seen:
    raw = b'HTTP/1.1 200 OK\r\n\r\n{"choices":[{"message":{"content":"%b"}}]}' % said.encode()
    return Seen(TENANT, canary, stream=False, status=200, request_id="req_1", whole=True, raw=raw)


@pytest.mark.parametrize(
    ("said", "whole", "wrong"),
    [("canary-t1-1-", True, 0), ("canary-t2-9-", True, 2), ("canary-t1-1", True, 1), ("canary-t2", False, 2)],
)
def test_a_foreign_canary_is_found(said: str, whole: bool, wrong: int) -> None:
    seen = answered("canary-t1-1-", said)
    seen.whole = whole
    storm = Storm(seen=[seen])
    storm.judge(1)
    assert len(storm.wrong) == wrong


@pytest.mark.parametrize(
    ("row", "wrong"),
    [((7, COST, COST), 0), ((8, COST, COST), 1), ((7, COST - 1, COST), 1), ((7, COST, COST - 1), 1)],
)
def test_a_wrong_settlement_is_found(row: tuple[int, int, int], wrong: int) -> None:
    storm = Storm(seen=[answered("canary-t1-1-", "canary-t1-1-")])
    storm.reconcile({"req_1": row})
    assert len(storm.wrong) == wrong


def test_a_call_that_fails_without_a_reason_is_found() -> None:
    seen = answered("canary-t1-1-", "")
    seen.status = 502
    storm = Storm(seen=[seen])
    storm.judge(2)
    assert [line.split(",")[0] for line in storm.wrong] == ["1 of 2 calls ended", "1 failed"]
