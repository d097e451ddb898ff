"""Batch APIs that take lines as calls: how a target is asked then."""

from __future__ import annotations

import msgspec
from tests.providers.passed import target_of

from headgate.batch.uplink import Uplink
from headgate.buckets import Handover
from headgate.providers.registry import BATCH_CALLS, BATCHES, known_hosts
from headgate.values import Deadlines

CALLS = BATCH_CALLS["volcengine"]


def at(left_s: float = 7_200.0, **models: str):
    target = target_of("volcengine")
    host = msgspec.structs.replace(target.host, handover=Handover(models=models))
    return CALLS.at(msgspec.structs.replace(target, host=host, base_path="/api/v3"), left_s)


def test_it_is_asked_beside_its_usual_path_and_by_another_name():
    assert at(m="ep-bi-1").base_path == "/api/v3/batch"
    assert at(m="ep-bi-1").model.name == "ep-bi-1"
    assert at(other="ep-bi-1").model.name == "m"


def test_it_may_take_as_long_as_its_batch_has():
    usual = Deadlines()
    assert at().deadlines == Deadlines(first_byte_s=7_200.0, total_s=7_200.0)
    assert at(-5.0).deadlines.first_byte_s == 1.0
    assert at().deadlines.connect_s == usual.connect_s
    assert at().deadlines.between_frames_s == usual.between_frames_s


def test_who_runs_lines_so():
    uplink = Uplink({}, None, ".", BATCH_CALLS)
    target = target_of("volcengine")
    host = msgspec.structs.replace(target.host, batches="volcengine")
    there = msgspec.structs.replace(target, host=host, batch="provider")
    assert uplink.calls(there, "chat") is uplink.calls(there, "embeddings") is CALLS
    assert uplink.calls(there, "moderations") is None
    for ours in ({"batch": "own"}, {"steered": True}, {"simulated": True}, {"host": target.host}):
        assert uplink.calls(msgspec.structs.replace(there, **ours), "chat") is None


def test_each_is_the_api_of_a_known_host_and_of_no_kind():
    assert {row.batches for row in known_hosts().values()} >= set(BATCH_CALLS)
    assert not set(BATCH_CALLS) & set(BATCHES)
