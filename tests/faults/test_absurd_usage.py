"""A provider's count that cannot be true is never believed: the call is counted here and marked.

The caller, the header and the books say the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.answers import SSE, usage_of
from tests.faults.worker import COUNTED, INPUT, MODELS, OUTPUT, Reply, chat, worker
from tests.upstream import ScriptedUpstream, chat_frames, http_answer, json_answer

pytestmark = pytest.mark.anyio

PRODUCED = 3  # tokens of "Hello there.", exact and estimated alike
GOOD = usage_of(19, PRODUCED)

ABSURD: dict[str, Any] = {
    "null": None,
    "empty": {},
    "zero": usage_of(0, 0),
    "no output, though there is text": usage_of(19, 0),
    "no input": usage_of(0, 3),
    "null input": GOOD | {"prompt_tokens": None},
    "null output": GOOD | {"completion_tokens": None},
    "negative input": usage_of(-19, 3),
    "negative output": usage_of(19, -3),
    "1e18 of input": usage_of(10**18, 3),
    "1e18 of output": usage_of(19, 10**18),
    "1e18 as a float": GOOD | {"completion_tokens": 1e18},
    "more than 64 bits": usage_of(19, 10**40),
    "more than 64 bits of cache": GOOD | {"prompt_tokens_details": {"cached_tokens": 10**40}},
    "fractions": GOOD | {"completion_tokens": 2.5},
    "more cached than there is": GOOD | {"prompt_tokens_details": {"cached_tokens": 20}},
    "more reasoning than there is": GOOD | {"completion_tokens_details": {"reasoning_tokens": 4}},
    "negative cache": GOOD | {"prompt_tokens_details": {"cached_tokens": -1}},
    "two millions of output": usage_of(19, 2_000_000),
}
WRONG_TYPES: dict[str, Any] = {
    "text": GOOD | {"completion_tokens": "3"},
    "a list": [],
    "true": GOOD | {"completion_tokens": True},
    "a number": 22,
    "details as a list": GOOD | {"prompt_tokens_details": []},
}


def answer(stream: bool, usage: Any) -> bytes:
    if not stream:
        whole = json.loads(json_answer(0).partition(b"\r\n\r\n")[2])
        assert whole == 0
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello there."},
            "finish_reason": "stop",
        }
        return json_answer(
            {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
        )
    last = b"data: " + json.dumps({"id": "x", "choices": [], "usage": usage}).encode() + b"\n\n"
    *frames, done = chat_frames(usage=False)
    return http_answer(b"".join([*frames, last, done]), 200, SSE)


def shown(reply: Reply, stream: bool) -> tuple[int, int, int]:
    """The usage that the caller reads."""
    usage = json.loads(reply.events[-2] if stream else reply.body)["usage"]
    return usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("usage", ABSURD | WRONG_TYPES)
async def test_a_count_that_cannot_be_true_is_counted_here(
    usage: str, stream: bool, model: str, tmp_path: Path
) -> None:
    said = (ABSURD | WRONG_TYPES)[usage]
    async with (
        ScriptedUpstream(answer(stream, said)) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        asked = {"stream_options": {"include_usage": True}} if stream else {}
        reply = await gateway.ask(chat(stream=stream, model=model, **asked))
        assert reply.status == 200, reply.body
        assert reply.whole
        assert not stream or reply.events[-1] == b"[DONE]"
        booked = await gateway.booked(reply)
        assert booked is not None
        prompt, _ = COUNTED[model]
        assert (booked.input, booked.output, booked.estimated) == (prompt, PRODUCED, True)
        assert booked.charge == prompt * INPUT + PRODUCED * OUTPUT
        assert booked.absorbed == 0
        assert shown(reply, stream) == (prompt, PRODUCED, prompt + PRODUCED)
        if not stream:
            assert reply.headers["x-headgate-cost"] == f"0.{booked.charge:09d}"


RUNNING = {
    "rising": ([1, 2, 3], False),
    "falling": ([1, 3, 2], True),
    "falling and rising again": ([2, 1, 3], True),
    "absurd at last": ([1, 2, 10**18], True),
    "zero at last": ([1, 2, 0], True),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("counts", RUNNING)
async def test_a_running_count_is_believed_only_while_it_grows(
    counts: str, model: str, tmp_path: Path
) -> None:
    numbers, estimated = RUNNING[counts]
    *frames, done = chat_frames(usage=False)
    for i, number in enumerate(numbers, 1):
        chunk = json.loads(frames[i][6:]) | {"usage": usage_of(19, number)}
        frames[i] = b"data: " + json.dumps(chunk).encode() + b"\n\n"
    wire = http_answer(b"".join([*frames, done]), 200, SSE)
    async with ScriptedUpstream(wire) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        reply = await gateway.ask(chat(stream=True, model=model, stream_options={"include_usage": True}))
        assert reply.events[-1] == b"[DONE]"
        booked = await gateway.booked(reply)
        assert booked is not None
        prompt = COUNTED[model][0] if estimated else 19
        assert (booked.input, booked.output, booked.estimated) == (prompt, 3, estimated)
        assert booked.charge == prompt * INPUT + 3 * OUTPUT
        assert shown(reply, stream=True) == (prompt, 3, prompt + 3)
