"""A provider that answers `stream: true` with one JSON body: the caller gets a stream of it, and pays its count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.answers import SSE, http_answer, usage_of
from tests.faults.worker import COUNTED, INPUT, MODELS, ONE_ATTEMPT, OUTPUT, Reply, chat, worker
from tests.providers import bedrock_wire, claude_wire, cohere_wire, gemini_wire
from tests.providers.asking import chunks, message, put_together
from tests.upstream import ScriptedUpstream, Split, json_answer

pytestmark = pytest.mark.anyio

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
SAID = {"role": "assistant", "content": "Hello there.", "tool_calls": [CALL]}
CHOICE = {"index": 0, "message": SAID, "logprobs": None, "finish_reason": "tool_calls"}
WHOLE = {"id": "x", "object": "chat.completion", "created": 7, "model": "m-2026", "choices": [CHOICE]}
NAMED = {"gpt-4o-mini": "m-2026", "scripted-1": "scripted-1"}  # OpenAI's names pass, as snapshots
ASKED = {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize("model", MODELS)
async def test_the_caller_gets_the_stream_and_pays_what_the_answer_counts(model: str, tmp_path: Path) -> None:
    whole = json_answer(WHOLE | {"usage": usage_of(19, 7)})
    async with ScriptedUpstream(whole) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        reply = await gateway.ask(chat(stream=True, model=model, **ASKED))
        assert (reply.status, reply.whole) == (200, True)
        assert reply.headers["content-type"].startswith("text/event-stream")
        *events, done = reply.events
        assert done == b"[DONE]"
        *chunks, count = [json.loads(event) for event in events]
        assert {chunk["object"] for chunk in (*chunks, count)} == {"chat.completion.chunk"}
        assert {chunk["model"] for chunk in (*chunks, count)} == {NAMED[model]}
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert deltas == [
            {"role": "assistant", "content": "", "refusal": None},
            {"content": "Hello there."},
            {"tool_calls": [CALL | {"index": 0}]},
            {},
        ]
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "tool_calls"]
        assert (count["choices"], count["usage"]) == ([], usage_of(19, 7))
        booked = await gateway.booked(reply)
        assert booked is not None
        assert (booked.status, booked.input, booked.output, booked.estimated) == (200, 19, 7, False)
        assert booked.charge == 19 * INPUT + 7 * OUTPUT
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("model", MODELS)
async def test_without_a_count_it_is_counted_here(model: str, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(json_answer(WHOLE)) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        reply = await gateway.ask(chat(stream=True, model=model, **ASKED))
        booked = await gateway.booked(reply)
        assert booked is not None
        assert booked.estimated
        assert booked.input == COUNTED[model][0]
        count = json.loads(reply.events[-2])["usage"]
        assert (count["prompt_tokens"], count["completion_tokens"]) == (booked.input, booked.output)
        assert booked.output > 3, "the call of the tool is counted, too"


async def test_another_apis_form_of_it_is_a_stream_too(tmp_path: Path) -> None:
    whole = json_answer(WHOLE | {"usage": usage_of(19, 7)})
    async with ScriptedUpstream(whole) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        reply = await gateway.ask(chat(stream=True), "/v1/messages")
        assert reply.status == 200
        events = [json.loads(frame.partition(b"data: ")[2]) for frame in reply.body.split(b"\n\n")[:-1]]
        assert [event["type"] for event in events][:: len(events) - 1] == ["message_start", "message_stop"]
        assert (
            "".join(event["delta"].get("text", "") for event in events if "delta" in event) == "Hello there."
        )
        assert any(event.get("usage", {}).get("output_tokens") == 7 for event in events)


# ── wires of their own ──────────────────────────────────────────────────────────────────────────

JSON = (("content-type", "application/json"),)
OWN = """
[[providers]]
name = "own"
kind = "{kind}"
base_url = "{base_url}"
api_key = "k"
models = ["none-*"]
[[models]]
name = "m"
targets = [{{ provider = "own", model = "x" }}]
"""
TEXT = {"type": "text", "text": "你好 there."}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "EqoB=="}
TOOLS = [
    {"type": "tool_use", "id": f"toolu_{n}", "name": "look", "input": {"at": n} if n else {}} for n in (0, 1)
]
RAN = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
CITED = {"type": "web_search_result_location", "url": "http://p/", "title": "P", "cited_text": "你"}
CLAUDE_CACHED = claude_wire.START_USAGE | {
    "cache_creation_input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 15,
}  # fmt: skip
# Whole answers of each wire, and how they end in OpenAI's words.
OWN_CASES: dict[str, tuple[str, bytes, str]] = {
    "claude's text": ("anthropic", claude_wire.message(TEXT), "stop"),
    "claude's thought": ("anthropic", claude_wire.message(THOUGHT, TEXT, usage=CLAUDE_CACHED), "stop"),
    "claude's tools": ("anthropic", claude_wire.message(THOUGHT, TEXT, *TOOLS, stop="tool_use"), "tool_calls"),
    "claude's search": ("anthropic", claude_wire.message(RAN, TEXT | {"citations": [CITED]}), "stop"),
    "claude's end by length": ("anthropic", claude_wire.message(TEXT, stop="max_tokens"), "length"),
    "claude's refusal": (
        "anthropic",
        claude_wire.message(stop="refusal", stop_details={"explanation": "No."}),
        "content_filter",
    ),
    "cohere's text": ("cohere", cohere_wire.body(cohere_wire.text("你好 there.")), "stop"),
    "cohere's thought": (
        "cohere",
        cohere_wire.body(cohere_wire.thought("Hm."), cohere_wire.text("Yes"), finish="MAX_TOKENS"),
        "length",
    ),
    "cohere's tools": (
        "cohere",
        cohere_wire.body(
            finish="TOOL_CALL",
            plan="I look.",
            calls=[cohere_wire.call("look", '{"at": 1}'), cohere_wire.call("see", "{}")],
        ),
        "tool_calls",
    ),
    "gemini's text": ("gemini", gemini_wire.body(gemini_wire.candidate(gemini_wire.text("你好"))), "stop"),
    "gemini's thought and tool": (
        "gemini",
        gemini_wire.body(
            gemini_wire.candidate(
                gemini_wire.text("Hm.", thought=True), gemini_wire.call("look", {"at": 1}, id="call_1", thoughtSignature="c2ln")
            )
        ),
        "tool_calls",
    ),
    "gemini's end by length": (
        "gemini",
        gemini_wire.body(gemini_wire.candidate(gemini_wire.text("x"), finish="MAX_TOKENS")),
        "length",
    ),
    "bedrock's text": ("bedrock", bedrock_wire.body(bedrock_wire.text("你好 there.")), "stop"),
    "bedrock's thought and tool": (
        "bedrock",
        bedrock_wire.body(
            bedrock_wire.thought("Hm."), bedrock_wire.use("look", "call_1", {"at": 1}), stop="tool_use",
            usage=bedrock_wire.CACHED,
        ),
        "tool_calls",
    ),
    "bedrock's end by length": ("bedrock", bedrock_wire.body(bedrock_wire.text("x"), stop="max_tokens"), "length"),
}  # fmt: skip


def own(kind: str, base_url: str) -> str:
    return ONE_ATTEMPT + OWN.format(kind=kind, base_url=base_url)


@pytest.mark.parametrize("case", OWN_CASES)
async def test_a_wire_of_its_own_says_and_costs_the_same_streamed(case: str, tmp_path: Path) -> None:
    kind, body, reason = OWN_CASES[case]
    answer = http_answer(body, headers=JSON)
    async with (
        ScriptedUpstream(answer, [Split(answer, every=41)]) as upstream,
        worker(tmp_path, upstream.base_url, more=own(kind, upstream.base_url)) as gateway,
    ):
        plain = await gateway.ask(chat(model="m"))
        reply = await gateway.ask(chat(stream=True, model="m", **ASKED))
        assert (reply.status, reply.whole) == (200, True)
        assert reply.headers["content-type"].startswith("text/event-stream")
        said, whole = put_together(reply.body), message(plain.body)
        assert said["finish_reason"] == reason
        assert filled(said) == filled(whole)
        assert any(said.get(name) for name in ("content", "refusal", "tool_calls"))
        assert chunks(reply.body)[-1]["usage"] == json.loads(plain.body)["usage"]
        books = await gateway.books()
        one, other = books[plain.request_id], books[reply.request_id]
        assert (other.input, other.output, other.charge) == (one.input, one.output, one.charge)
        assert not other.estimated
        assert other.charge > 0
        assert len(upstream.requests) == 2


def filled(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value not in (None, "")}


@pytest.mark.parametrize("before", [b": wait\r\n\r\n", b"\n\n", b"\xef\xbb\xbf", b": a\n: b\n\n"])
async def test_it_may_come_after_signs_of_life(before: bytes, tmp_path: Path) -> None:
    answer = http_answer(before + claude_wire.message(THOUGHT, TEXT), headers=JSON)
    async with (
        ScriptedUpstream([Split(answer, every=1)]) as upstream,
        worker(tmp_path, upstream.base_url, more=own("anthropic", upstream.base_url)) as gateway,
    ):
        reply = await gateway.ask(chat(stream=True, model="m"))
        said = put_together(reply.body)
        assert (said["content"], said["reasoning_content"]) == ("你好 there.", "Hm.")
        booked = await gateway.booked(reply)
        assert booked is not None
        assert (booked.input, booked.output, booked.estimated) == (20, 15, False)


async def test_chunks_of_gemini_may_come_as_an_array(tmp_path: Path) -> None:
    pieces = [
        gemini_wire.body(gemini_wire.candidate(gemini_wire.text("Hello "), finish=None)),
        gemini_wire.body(gemini_wire.candidate(gemini_wire.text("there."))),
    ]
    answer = http_answer(b"[" + b",\r\n".join(pieces) + b"]", headers=JSON)
    async with (
        ScriptedUpstream(answer) as upstream,
        worker(tmp_path, upstream.base_url, more=own("gemini", upstream.base_url)) as gateway,
    ):
        reply = await gateway.ask(chat(stream=True, model="m"))
        assert put_together(reply.body)["content"] == "Hello there."


def events_of(reply: Reply) -> list[dict[str, Any]]:
    return [json.loads(frame.partition(b"data: ")[2]) for frame in reply.body.split(b"\n\n")[:-1]]


async def test_a_message_asked_for_as_messages_comes_as_its_events(tmp_path: Path) -> None:
    blocks = [THOUGHT, RAN, TEXT | {"citations": [CITED]}, *TOOLS]
    whole = http_answer(claude_wire.message(*blocks, stop="tool_use", usage=CLAUDE_CACHED), headers=JSON)
    streamed = http_answer(claude_wire.stream(*blocks, stop="tool_use", usage=CLAUDE_CACHED), headers=SSE)
    async with (
        ScriptedUpstream(whole, streamed) as upstream,
        worker(tmp_path, upstream.base_url, more=own("anthropic", upstream.base_url)) as gateway,
    ):
        replies = [await gateway.ask(chat(stream=True, model="m"), "/v1/messages") for _ in range(2)]
        one, other = (put_back(events_of(reply)) for reply in replies)
        assert one == other
        assert one["content"] == blocks
        assert (one["stop_reason"], one["model"]) == ("tool_use", "m")
        assert one["usage"]["output_tokens"] == 15
        books = await gateway.books()
        booked, as_stream = (books[reply.request_id] for reply in replies)
        assert (booked.input, booked.output, booked.estimated) == (28, 15, False)
        assert booked.charge == as_stream.charge > 0


def put_back(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message of a stream, as Anthropic's SDK puts it together."""
    made: dict[str, Any] = {}
    for event in events:
        block = made["content"][event["index"]] if event["type"] == "content_block_delta" else {}
        match event:
            case {"type": "message_start", "message": begun}:
                made = {**begun, "content": []}
            case {"type": "content_block_start", "content_block": opened}:
                made["content"].append({**opened, "input": ""} if "input" in opened else dict(opened))
            case {"delta": {"type": "citations_delta", "citation": citation}}:
                block.setdefault("citations", []).append(citation)
            case {"delta": {"type": "signature_delta", "signature": signature}}:
                block["signature"] += signature
            case {"type": "content_block_delta", "delta": {"type": _, **piece}}:
                ((name, text),) = piece.items()
                block["input" if name == "partial_json" else name] += text
            case {"type": "message_delta", "delta": ended, "usage": usage}:
                made |= {**ended, "usage": made["usage"] | usage}
    assert events[-1]["type"] == "message_stop"
    for block in made["content"]:
        if "input" in block:
            block["input"] = json.loads(block["input"] or "{}")
    return made


async def test_a_message_without_a_count_shows_the_booked_one(tmp_path: Path) -> None:
    body = json.loads(claude_wire.message(TEXT))
    del body["usage"]
    async with (
        ScriptedUpstream(json_answer(body)) as upstream,
        worker(tmp_path, upstream.base_url, more=own("anthropic", upstream.base_url)) as gateway,
    ):
        reply = await gateway.ask(chat(stream=True, model="m"), "/v1/messages")
        booked = await gateway.booked(reply)
        assert booked is not None
        assert booked.estimated
        assert booked.output > 1
        usage = next(event["usage"] for event in events_of(reply) if event["type"] == "message_delta")
        assert (usage["input_tokens"], usage["output_tokens"]) == (booked.input, booked.output)


UNSTREAMED_ERRORS: dict[str, tuple[str, Any]] = {
    "claude": ("anthropic", {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}),
    "cohere": ("cohere", {"id": "x", "message": "Busy"}),
    "gemini": ("gemini", {"error": {"code": 503, "message": "Busy", "status": "UNAVAILABLE"}}),
    "gemini, as an array": ("gemini", [{"error": {"code": 503, "message": "Busy"}}]),
    "bedrock": ("bedrock", {"__type": "com.amazon.coral#ServiceUnavailableException", "message": "Busy"}),
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("case", UNSTREAMED_ERRORS)
async def test_an_error_in_place_of_a_stream_is_one_and_costs_nothing(
    case: str, path: str, tmp_path: Path
) -> None:
    kind, error = UNSTREAMED_ERRORS[case]
    async with (
        ScriptedUpstream(json_answer(error)) as upstream,
        worker(tmp_path, upstream.base_url, more=own(kind, upstream.base_url)) as gateway,
    ):
        reply = await gateway.ask(chat(stream=True, model="m"), path)
        assert reply.status in {502, 503}
        assert b"Busy" in reply.body or b"overloaded" in reply.body
        assert not [row for row in (await gateway.books()).values() if row.charge]
