"""An error in place of an answer, under the status 200: the next target is asked, whatever the wire.

Before the error comes what promises nothing yet: comments, pings, the start of a message, filters' verdicts.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.answers import SSE, chat_frames, http_answer, stream_steps
from tests.faults.worker import Worker, worker
from tests.providers import azure_wire, bedrock_wire, claude_wire, cohere_wire, gemini_wire
from tests.upstream import FIN, Answer, ScriptedUpstream, Step

pytestmark = pytest.mark.anyio
COMMENTS = b": keep-alive\n\n: PROCESSING\n\n"
BUSY = b'event: error\ndata: {"error":{"message":"busy","type":"server_error","code":"overloaded"}}\n\n'
START = json.loads(claude_wire.message(stop=None, usage=claude_wire.START_USAGE))
OVERLOADED = {"type": "overloaded_error", "message": "Overloaded"}
CLAUDE = claude_wire.event("message_start", message=START) + claude_wire.event("ping")
UNAVAILABLE = {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}
# What a provider of each kind sends before it fails.
WIRES = {
    "openai": COMMENTS + BUSY,
    "azure": azure_wire.FIRST + COMMENTS + BUSY,
    "headgate": COMMENTS + BUSY,
    "anthropic": COMMENTS + CLAUDE + claude_wire.event("error", error=OVERLOADED),
    "gemini": COMMENTS + gemini_wire.frame() + azure_wire.data({"error": UNAVAILABLE}),
    "bedrock": bedrock_wire.event("messageStart", role="assistant")
    + bedrock_wire.exception("serviceUnavailableException", "Busy"),
    "cohere": COMMENTS + cohere_wire.START + cohere_wire.ended("ERROR", None, error="busy"),
}
EMPTY = {"index": 0, "finish_reason": None, "logprobs": None}
ROLE = {"role": "assistant", "content": "", "refusal": None}
# The same, once a message has begun of which nothing is shown yet.
BEGUN = {
    "openai": [
        COMMENTS + chat_frames()[0],
        azure_wire.data({**azure_wire.COMMON, "choices": [{**EMPTY, "delta": {}}]}),
        BUSY,
    ],
    "azure": [azure_wire.FIRST, azure_wire.frame(ROLE), BUSY],
    "headgate": [chat_frames()[0], BUSY],
    "anthropic": [
        CLAUDE,
        claude_wire.event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        claude_wire.event("content_block_delta", index=0, delta={"type": "text_delta", "text": ""}),
        claude_wire.event("error", error=OVERLOADED),
    ],
    "gemini": [
        gemini_wire.frame(gemini_wire.candidate(gemini_wire.text(""), finish=None)),
        azure_wire.data({"error": UNAVAILABLE}),
    ],
    "bedrock": [
        bedrock_wire.event("messageStart", role="assistant"),
        bedrock_wire.event("contentBlockDelta", contentBlockIndex=0, delta={"text": ""}),
        bedrock_wire.exception("serviceUnavailableException", "Busy"),
    ],
    "cohere": [
        cohere_wire.START,
        cohere_wire.event("content-start", {"content": {"type": "text", "text": ""}}, 0),
        cohere_wire.ended("ERROR", None, error="busy"),
    ],
}
COUNTED = {"gemini": (0, 29, 212)}  # had told what it takes for it
OPERATIONS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Say hello"}]},
    "/v1/completions": {"prompt": "Say hello"},
    "/v1/messages": {"messages": [{"role": "user", "content": "Say hello"}]},
}


def two_targets(kind: str) -> str:
    return (
        f'\n[[providers]]\nname = "failing"\nkind = "{kind}"\nbase_url = "%s"\napi_key = "k"\nmodels = ["none-*"]\n'
        '[[models]]\nname = "m"\ntargets = [{ provider = "failing", model = "x" }, '
        '{ provider = "openai", model = "gpt-4o-mini" }]\n'
    )


async def falls_back(
    folder: Path, kind: str, answer: Answer, path: str = "/v1/chat/completions"
) -> list[tuple[int, int, int]]:
    """Let the first target fail; return what is booked of it as lost."""
    async with (
        ScriptedUpstream(answer) as failing,
        ScriptedUpstream() as upstream,
        worker(folder, upstream.base_url, more=two_targets(kind) % failing.base_url) as gateway,
    ):
        await served_by_the_second(gateway, path)
        assert len(failing.requests) == len(upstream.requests) == 1
        return await gateway.lost()


async def served_by_the_second(gateway: Worker, path: str) -> None:
    body = {"model": "m", "stream": True, "max_tokens": 100, **OPERATIONS[path]}
    reply = await gateway.ask(json.dumps(body).encode(), path)
    assert (reply.status, reply.whole) == (200, True)
    assert reply.headers["x-headgate-provider"] == "openai"
    assert reply.headers["x-headgate-attempts"] == "2"
    assert b"Hello" in reply.body
    assert b"error" not in reply.body.lower()
    (booked,) = (await gateway.books()).values()
    assert (booked.status, booked.estimated) == (200, False)
    assert booked.charge > 0


@pytest.mark.parametrize("kind", WIRES)
async def test_an_error_that_comes_first_falls_back(kind: str, tmp_path: Path) -> None:
    lost = await falls_back(tmp_path, kind, http_answer(WIRES[kind], headers=SSE))
    assert lost == ([] if kind not in COUNTED else [COUNTED[kind]])


@pytest.mark.parametrize("kind", BEGUN)
async def test_an_error_after_a_begin_that_shows_nothing_falls_back(kind: str, tmp_path: Path) -> None:
    lost = await falls_back(tmp_path, kind, stream_steps(BEGUN[kind]))
    assert lost == ([] if kind not in COUNTED else [COUNTED[kind]])


async def test_what_shows_nothing_is_held_back_within_bounds(tmp_path: Path) -> None:
    nothing = azure_wire.data({**azure_wire.COMMON, "choices": [{**EMPTY, "delta": {}}]}) * 65
    async with (
        ScriptedUpstream(stream_steps([chat_frames()[0], nothing, BUSY])) as failing,
        ScriptedUpstream() as upstream,
        worker(tmp_path, upstream.base_url, more=two_targets("openai") % failing.base_url) as gateway,
    ):
        body = json.dumps(
            {"model": "m", "stream": True, "max_tokens": 100, **OPERATIONS["/v1/chat/completions"]}
        )
        reply = await gateway.ask(body.encode())
        assert (reply.status, reply.headers["x-headgate-provider"]) == (200, "failing")
        assert b"[DONE]" not in reply.body
        assert upstream.requests == []


@pytest.mark.parametrize("kind", WIRES)
async def test_an_end_before_the_first_event_falls_back(kind: str, tmp_path: Path) -> None:
    wire = WIRES[kind]
    before = wire[: wire.rfind(b"\x00\x00\x00", 0, -100) if kind == "bedrock" else wire.rfind(b"data:")]
    steps: list[Step] = [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n", before, FIN]
    assert len(await falls_back(tmp_path, kind, steps)) == 1  # it may bill what it had begun


async def test_a_message_for_who_asked_for_messages_falls_back_too(tmp_path: Path) -> None:
    await falls_back(tmp_path, "anthropic", http_answer(WIRES["anthropic"], headers=SSE), "/v1/messages")


@pytest.mark.parametrize("before", [b"", azure_wire.data({"id": "c", "choices": [{**EMPTY, "text": ""}]})])
async def test_a_completion_falls_back_too(before: bytes, tmp_path: Path) -> None:
    chunk = {"id": "c", "object": "text_completion", "created": 1, "model": "m"}
    said = {"index": 0, "text": "Hello", "finish_reason": "stop", "logprobs": None}
    frames = [azure_wire.data({**chunk, "choices": [said]}), azure_wire.COUNT, azure_wire.DONE]
    async with (
        ScriptedUpstream(http_answer(before + WIRES["openai"], headers=SSE)) as failing,
        ScriptedUpstream(stream_steps(frames)) as upstream,
        worker(tmp_path, upstream.base_url, more=two_targets("openai") % failing.base_url) as gateway,
    ):
        await served_by_the_second(gateway, "/v1/completions")
