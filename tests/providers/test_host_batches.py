"""Hosts with OpenAI's wire: which of them have its batch API, and what theirs is for."""

from __future__ import annotations

import json

import pytest
from tests.providers.passed import job_of

from headgate.providers.registry import BATCH_CALLS, BATCHES, known_hosts
from headgate.values import Host, Model, Target

JOB = job_of()


@pytest.mark.parametrize("name", [name for name, row in known_hosts().items() if row.kind == "openai"])
def test_it_is_said_of_each_host_whether_its_batch_api_is_spoken(name):
    row = known_hosts()[name]
    spoken = row.batches == name and name in {**BATCHES, **BATCH_CALLS}
    assert name == "openai" or row.batches == "none" or spoken


@pytest.mark.parametrize(
    ("name", "endpoint", "operations", "most_bytes"),
    [
        ("zhipu", "/v4/chat/completions", {"chat", "embeddings"}, 99_000_000),
        ("groq", "/v1/chat/completions", {"chat"}, 99_000_000),
        ("dashscope", "/v1/chat/completions", {"chat", "embeddings"}, 499_000_000),
        ("moonshotai", "/v1/chat/completions", {"chat"}, 99_000_000),
        ("cerebras", "/v1/chat/completions", {"chat"}, 199_000_000),
    ],
)
def test_lines_are_for_what_the_host_calls_it(name, endpoint, operations, most_bytes):
    wire = BATCHES[name]
    to = Target(host=Host(name=name, base_url="http://h"), model=Model(name="m"), prices=None)
    assert json.loads(wire.line(JOB, 1, b"{}"))["url"] == endpoint
    assert json.loads(wire.create(JOB, to).body)["endpoint"] == endpoint
    assert (wire.operations, wire.most_lines, wire.most_bytes) == (operations, 50_000, most_bytes)
