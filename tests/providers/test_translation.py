"""The seam of all codecs that are not OpenAI's: turns, the policy, and the grammar of what is written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from tests.providers.asking import HELLO, chat, chunks, message, notes, put_together, sent, target

from headgate.errors import CallerError, UpstreamInterrupted
from headgate.providers.chat import Choice, output_limit, read_chat
from headgate.providers.events import (
    Counted,
    Event,
    RefusalPiece,
    Sealed,
    Stopped,
    TextPiece,
    ThoughtPiece,
    ToolPiece,
    ToolStart,
)
from headgate.providers.openai import CODECS
from headgate.providers.parts import Audio, File, Image, Text
from headgate.providers.translated import TranslatedReader
from headgate.providers.turns import ToolUse, read_turns
from headgate.values import Call, Usage

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("f", "g")
]
HERE = target("openai")


class Scripted:
    """A source that says the events it was given, one for each byte."""

    def __init__(self, *events: Event) -> None:
        self._events = list(events)
        self.done = False

    def feed(self, data: bytes) -> Iterable[Event]:
        found = [self._events.pop(0) for _ in data]
        self.done = not self._events
        return found

    def finish(self) -> Iterable[Event]:
        return ()


def answer(*events: Event, stream: bool, **members: object) -> bytes:
    reader = TranslatedReader(chat(stream, **members), Scripted(*events))
    return reader.feed(bytes(len(events))) + reader.finish() + reader.end(Usage(5, 7))


def refused(**members: object) -> tuple[str | None, str | None]:
    with pytest.raises(CallerError) as caught:
        read_chat(chat(**members), HERE, ())
    return caught.value.param, caught.value.code


# ── reading ─────────────────────────────────────────────────────────────────────────────────────


def test_turns_keep_order_roles_and_whose_tools_are_answered() -> None:
    raw = msgspec.json.encode(
        [
            {"role": "developer", "content": "Be brief"},
            {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "x"}}]},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "thinking_blocks": [{"index": 0, "type": "thinking", "signature": "s"}],
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
                ],
            },
            {"role": "tool", "tool_call_id": "b", "content": "2"},
            {"role": "assistant", "content": "", "refusal": "No."},
        ]
    )
    system, user, calls, tool, refusal = read_turns(raw)
    assert (system.role, system.parts) == ("system", (Text("Be brief"),))
    assert user.parts == (Text("Hi", {"type": "x"}),)
    assert calls.parts == ()
    assert calls.calls == (ToolUse("a", "f", '{"x":1}'), ToolUse("b", "g"))
    assert [call.input() for call in calls.calls] == [{"x": 1}, {}]
    assert (calls.thought, calls.sealed) == ("hm", ({"type": "thinking", "signature": "s"},))
    assert (tool.answers, tool.answered_name, tool.path) == ("b", "g", "messages[3]")
    assert refusal.parts == (Text("No."),)


@pytest.mark.parametrize(("arguments", "value"), [("[1]", [1]), ("{broken", "{broken"), ("3", 3)])
def test_arguments_that_are_no_object_do_not_crash(arguments: str, value: object) -> None:
    assert ToolUse("a", "f", arguments).input() == {"arguments": value}


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x/y.png"}}, Image(url="https://x/y.png")),
        (
            {"type": "image_url", "image_url": {"url": "data:image/PNG;base64,aGk=", "detail": "low"}},
            Image(media_type="image/png", data="aGk=", detail="low"),
        ),
        ({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}, Audio("aGk=", "wav")),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}},
            File(name="a.pdf", media_type="application/pdf", data="aGk="),
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, File(file_id="file-1")),
    ],
)
def test_media_are_read_by_kind(part: dict, value: object) -> None:
    (turn,) = read_turns(msgspec.json.encode([{"role": "user", "content": [part]}]))
    assert turn.parts == (value,)


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png,abc"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,<>"}}, "image_url.url"),
        ({"type": "image_url", "image_url": "https://x"}, "image_url"),
        ({"type": "input_audio", "input_audio": {"data": "aGk="}}, "input_audio.format"),
        ({"type": "file", "file": {}}, "file.file_data"),
        ({"type": "hologram"}, "type"),
    ],
)
def test_a_part_that_is_none_is_refused_by_its_path(part: dict, param: str) -> None:
    with pytest.raises(CallerError) as caught:
        read_turns(msgspec.json.encode([{"role": "user", "content": [part]}]))
    assert caught.value.param == f"messages[0].content[0].{param}"


def test_allowed_tools_are_the_ones_that_are_sent() -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}
    wanted = {"type": "allowed_tools", "allowed_tools": allowed}
    asked = read_chat(chat(tools=TOOLS, tool_choice=wanted), HERE, {"tools", "tool_choice"})
    assert [tool.name for tool in asked.tools] == ["g"]
    assert asked.choice == Choice("required")


# ── the policy ──────────────────────────────────────────────────────────────────────────────────


def test_tuning_is_dropped_and_named() -> None:
    made = chat(seed=1, temperature=0.5, top_p=0.9)
    asked = read_chat(made, HERE, {"top_p"})
    assert (asked.top_p, asked.seed, asked.temperature) == (0.9, None, None)
    assert notes(made) == [("dropped", "seed"), ("dropped", "temperature")]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("n", 2),
        ("tools", TOOLS),
        ("logprobs", True),
        ("response_format", {"type": "json_object"}),
        ("modalities", ["text", "audio"]),
        ("stop", ["x"]),
        ("web_search_options", {}),
    ],
)
def test_a_feature_is_refused(member: str, value: object) -> None:
    assert refused(**{member: value}) == (member, "unsupported_parameter")


def test_what_is_so_anyway_says_nothing() -> None:
    made = chat(
        n=1,
        logprobs=False,
        response_format={"type": "text"},
        parallel_tool_calls=True,
        presence_penalty=0,
        seed=None,
        store=False,
    )
    read_chat(made, target("openai", parameters="strict"), ())
    assert notes(made) == []


def test_strict_refuses_tuning_and_lenient_drops_features() -> None:
    with pytest.raises(CallerError, match="Unsupported parameter: 'seed' is not supported with this model"):
        read_chat(chat(seed=1), target("openai", parameters="strict"), ())
    made = chat(n=2, foo=1)
    assert read_chat(made, target("openai", parameters="lenient"), ()).n == 1
    assert notes(made) == [("dropped", "n"), ("dropped", "foo")]


def test_what_a_host_of_openais_wire_does_not_take_is_left_out_or_refused_by_the_same_policy() -> None:
    def members(made: Call, parameters: str = "") -> Any:
        to = target("openai", parameters=parameters)
        to = msgspec.structs.replace(to, host=msgspec.structs.replace(to.host, drops=("seed", "logprobs")))
        return sent(CODECS["chat"], made, to)

    made = chat(seed=1, logprobs=False)
    assert not {"seed", "logprobs"} & members(made).keys()
    assert notes(made) == [("dropped", "seed")]
    with pytest.raises(CallerError, match="Unsupported parameter: 'logprobs'"):
        members(chat(logprobs=True))
    with pytest.raises(CallerError, match="Unsupported parameter: 'seed'"):
        members(chat(seed=1), "strict")
    made = chat(logprobs=True)
    members(made, "lenient")
    assert notes(made) == [("dropped", "logprobs")]


def test_a_choice_of_tools_needs_tools() -> None:
    asked = read_chat(chat(tool_choice="auto", tools=[]), HERE, {"tools", "tool_choice"})
    assert (asked.tools, asked.choice) == ((), None)


@pytest.mark.parametrize(
    ("shrunk", "asked", "own", "limit"),
    [(50, 70, 100, 50), (0, 70, 100, 70), (0, None, 100, 100), (0, None, 0, 4096)],
)
def test_the_limit_that_is_sent_is_the_one_that_is_held(shrunk, asked, own, limit) -> None:
    made = chat(**({"max_tokens": asked} if asked else {}))
    made.shrunk_to = shrunk
    assert output_limit(made, target("openai", max_output=own)) == limit


# ── writing ─────────────────────────────────────────────────────────────────────────────────────


def frames(stream: bytes) -> list[tuple[object, object]]:
    return [(c["choices"][0]["delta"], c["choices"][0]["finish_reason"]) for c in chunks(stream)]


def test_a_streams_grammar_is_openais() -> None:
    out = answer(TextPiece("Hel"), TextPiece(""), TextPiece("lo"), Stopped("stop"), stream=True)
    assert frames(out) == [
        ({"role": "assistant", "content": "", "refusal": None}, None),
        ({"content": "Hel"}, None),
        ({"content": "lo"}, None),
        ({}, "stop"),
    ]
    first = chunks(out)[0]
    assert first.keys() == {"id", "object", "created", "model", "system_fingerprint", "choices"}
    assert first["id"].startswith("chatcmpl-")
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"][0].keys() == {"index", "delta", "logprobs", "finish_reason"}
    assert len({(c["id"], c["created"], c["model"]) for c in chunks(out)}) == 1


def test_a_usage_chunk_is_sent_when_asked_for_and_has_no_choice() -> None:
    asked = {"stream_options": {"include_usage": True}}
    *others, last = chunks(answer(TextPiece("a"), Stopped("stop"), stream=True, **asked))
    assert all(chunk["usage"] is None for chunk in others)
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 12)


def test_tool_calls_are_numbered_from_zero_and_empty_arguments_are_an_object() -> None:
    calls = (
        ToolStart(3, "a", "f"),
        ToolPiece(3, '{"x"'),
        ToolPiece(3, ":1}"),
        ToolStart(5, "b", "g", extra={"google": {"s": 1}}),
        Stopped("stop"),
    )
    out = answer(*calls, stream=True)
    deltas = [delta for delta, _ in frames(out)]
    assert deltas[0] == {"role": "assistant", "content": None, "refusal": None}
    assert [delta["tool_calls"][0] for delta in deltas[1:-1]] == [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"x"'}},
        {"index": 0, "function": {"arguments": ":1}"}},
        {
            "index": 1,
            "id": "b",
            "type": "function",
            "function": {"name": "g", "arguments": ""},
            "extra_content": {"google": {"s": 1}},
        },
        {"index": 1, "function": {"arguments": "{}"}},
    ]
    assert frames(out)[-1] == ({}, "tool_calls")
    assert put_together(out) == message(answer(*calls, stream=False))


ANSWERS = {
    "text": (TextPiece("a"), TextPiece("b"), Stopped("length")),
    "nothing": (Stopped("content_filter"),),
    "thought": (ThoughtPiece("hm"), Sealed({"type": "thinking", "s": "1"}), TextPiece("b"), Stopped("stop")),
    "two seals": (Sealed({"a": "1"}), Sealed({"b": "2"}), TextPiece("b"), Stopped("stop")),
    "refusal": (RefusalPiece("No"), RefusalPiece("."), Stopped("stop")),
    "text and tool": (TextPiece("I look"), ToolStart(1, "a", "f"), ToolPiece(1, "{}"), Stopped("tool_calls")),
}


@pytest.mark.parametrize("events", ANSWERS.values(), ids=ANSWERS)
def test_a_stream_and_a_body_say_the_same(events: tuple[Event, ...]) -> None:
    body = answer(*events, stream=False)
    assert put_together(answer(*events, stream=True)) == message(body)
    whole = msgspec.json.decode(body)
    assert whole["object"] == "chat.completion"
    assert whole["usage"]["total_tokens"] == 12
    assert {"role", "content", "refusal", "annotations"} <= whole["choices"][0]["message"].keys()


def test_choices_are_kept_apart() -> None:
    events = (TextPiece("a"), TextPiece("b", 1), TextPiece("c"), Stopped("stop", 1), Stopped("stop"))
    body = msgspec.json.decode(answer(*events, stream=False, n=2))
    assert [choice["message"]["content"] for choice in body["choices"]] == ["ac", "b"]
    assert put_together(answer(*events, stream=True, n=2))["content"] == "ac"


def test_logprobs_go_where_openai_has_them() -> None:
    row = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}
    events = (TextPiece("a", logprobs=(row,)), TextPiece("a", logprobs=(row,)), Stopped("stop"))
    body = msgspec.json.decode(answer(*events, stream=False))
    assert body["choices"][0]["logprobs"] == {"content": [row, row], "refusal": None}
    assert chunks(answer(*events, stream=True))[1]["choices"][0]["logprobs"]["content"] == [row]


@pytest.mark.parametrize("stream", [False, True])
def test_a_schemas_answer_by_a_forced_tool_is_text(stream: bool) -> None:
    events = (ToolStart(0, "a", "answer"), ToolPiece(0, '{"x"'), ToolPiece(0, ":1}"), Stopped("tool_calls"))
    reader = TranslatedReader(chat(stream), Scripted(*events), schema_tool="answer")
    out = reader.feed(bytes(4)) + reader.finish() + reader.end(Usage(1, 1))
    said = put_together(out) if stream else message(out)
    assert (said["content"], said["finish_reason"]) == ('{"x":1}', "stop")
    assert "tool_calls" not in said


def test_what_was_said_is_counted_the_same_way() -> None:
    reader = TranslatedReader(
        chat(), Scripted(ThoughtPiece("hm"), ToolStart(0, "a", "f"), ToolPiece(0, "{}"), TextPiece("你好"))
    )
    reader.feed(bytes(4))
    assert reader.text() == "hmf{}你好"
    assert reader.produced() == 4


def test_a_count_that_falls_is_not_believed() -> None:
    reader = TranslatedReader(
        chat(), Scripted(Counted(Usage(3, 4)), Counted(Usage(3, 2)), Counted(Usage(3, 9)))
    )
    reader.feed(bytes(1))
    assert reader.usage() == Usage(3, 4)
    reader.feed(bytes(2))
    assert reader.usage() is None


def test_an_answer_that_never_stopped_is_an_interruption() -> None:
    reader = TranslatedReader(chat(messages=HELLO), Scripted(TextPiece("a")))
    reader.feed(bytes(1))
    with pytest.raises(UpstreamInterrupted):
        reader.finish()
