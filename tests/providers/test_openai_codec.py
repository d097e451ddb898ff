import msgspec
import pytest

from headgate.errors import CallerError, UpstreamError, UpstreamInterrupted, UpstreamRegion
from headgate.http.parse import parse
from headgate.ports import Head
from headgate.providers import openai
from headgate.providers.openai import CODECS
from headgate.providers.refusals import refusal
from headgate.values import Call, Host, Model, Prices, Target, Usage

CODEC = CODECS["chat"]
STRAIGHT = Host(name="openai", base_url="http://h/v1", extras="refuse", deviates=False)
CHUNK = (
    '{"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06","choices":'
    '[{"index":0,"delta":{%s},"logprobs":null,"finish_reason":%s}],"usage":null}'
)
USAGE = (
    '{"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06","choices":[],'
    '"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}'
)


def target(host: Host = STRAIGHT, model: str = "gpt-4o", **facts: object) -> Target:
    return Target(host=host, model=Model(name=model, **facts), prices=Prices(), base_path="/v1")  # type: ignore[arg-type]


def call(stream: bool = True, **members: object) -> Call:
    made = Call(bytes(16), "chat", 0)
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}], "stream": stream} | members
    parse(msgspec.json.encode(body), made)
    return made


def events(*payloads: str) -> bytes:
    return "".join(f"data: {payload}\n\n" for payload in payloads).encode()


STREAM = events(
    CHUNK % ('"role":"assistant","content":""', "null"),
    CHUNK % ('"content":"你"', "null"),
    CHUNK % ('"content":"\u2028 ok"', "null"),
    CHUNK % ("", '"stop"'),
    USAGE,
    "[DONE]",
)


def read(made: Call, to: Target, pieces: list[bytes]) -> tuple[bytes, object]:
    reader = CODEC.reader(made, to)
    out = b"".join(reader.feed(piece) for piece in pieces)
    out += reader.finish()
    return out + reader.end(reader.usage() or Usage()), reader


def payloads(stream: bytes) -> list[dict]:
    frames = stream.decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [msgspec.json.decode(frame.removeprefix("data: ")) for frame in frames[:-2]]


def test_a_stream_cut_at_every_byte_reads_the_same():
    whole, reader = read(call(), target(), [STREAM])
    assert reader.usage() == Usage(9, 3)
    assert reader.text() == "你\u2028 ok"
    for cut in range(1, len(STREAM)):
        assert read(call(), target(), [STREAM[:cut], STREAM[cut:]])[0] == whole
    assert read(call(), target(), [STREAM[i : i + 1] for i in range(len(STREAM))])[0] == whole


def test_an_unasked_usage_chunk_is_never_sent():
    seen = payloads(read(call(), target(), [STREAM])[0])
    assert all(chunk["choices"] and "usage" not in chunk for chunk in seen)


def test_an_asked_usage_chunk_is_passed_as_it_came():
    made = call(stream_options={"include_usage": True})
    assert read(made, target(), [STREAM])[0] == STREAM


def test_carriage_returns_comments_and_event_names_are_read():
    odd = b": hello\r\n\r\n" + STREAM.replace(b"\n\n", b"\r\n\r\n").replace(
        b"data: {", b"event: x\r\ndata:{", 1
    )
    for cut in range(1, len(odd), 7):
        seen = payloads(read(call(), target(), [odd[:cut], odd[cut:]])[0])
        assert "".join(c["choices"][0]["delta"].get("content", "") for c in seen) == "你\u2028 ok"


def test_what_follows_done_is_ignored_and_done_twice_is_once():
    out = read(call(), target(), [STREAM + STREAM])[0]
    assert out.count(b"[DONE]") == 1


def test_a_stream_that_breaks_off_is_said_so():
    reader = CODEC.reader(call(), target())
    reader.feed(STREAM[: STREAM.index(b"[DONE]") - 20])
    with pytest.raises(UpstreamInterrupted):
        reader.finish()


def test_an_end_without_done_is_one_when_every_choice_had_ended():
    host = Host(name="h", base_url="http://h/v1")
    begun = [{"index": index, "delta": {"content": "a"}} for index in (0, 1)]
    ended = [{"index": index, "delta": {}, "finish_reason": "stop"} for index in (0, 1)]

    def reader_of(*choices: dict) -> object:
        reader = CODEC.reader(call(n=2), target(host))
        reader.feed(events(*(msgspec.json.encode({"choices": [choice]}).decode() for choice in choices)))
        return reader

    with pytest.raises(UpstreamInterrupted):
        reader_of(*begun, ended[0]).finish()
    assert reader_of(*begun, *ended).finish() == b""
    assert reader_of(begun[0], ended[0]).finish() == b""  # a host that makes one choice only


@pytest.mark.parametrize(
    "junk", [b"<html>\n\n", b"data: {\n\n", b'data: {"choices":5}\n\n', b"data: nul\n\n"]
)
def test_junk_in_a_stream_is_an_interruption_or_nothing(junk):
    with pytest.raises(UpstreamInterrupted):
        read(call(), target(), [junk])


def test_an_error_event_is_raised():
    reader = CODEC.reader(call(), target())
    with pytest.raises(UpstreamError, match="boom"):
        reader.feed(b'data: {"error":{"message":"boom","type":"server_error","param":null,"code":null}}\n\n')


def test_usage_that_falls_is_not_believed():
    falling = events(USAGE, USAGE.replace('"completion_tokens":3', '"completion_tokens":1'), "[DONE]")
    assert read(call(), target(), [falling])[1].usage() is None


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1, "completion_tokens": 3},
        {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 50}},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": 1.5, "completion_tokens": 3},
        {"prompt_tokens": 5, "completion_tokens": 10**40},
        {"prompt_tokens": 5, "completion_tokens": "9"},
        [],
        None,
    ],
)
def test_an_absurd_usage_is_no_usage(usage):
    answer = {"id": "c", "choices": [{"index": 0, "message": {"content": "hi"}}], "usage": usage}
    reader = CODEC.reader(call(stream=False), target())
    reader.feed(msgspec.json.encode(answer))
    reader.finish()
    assert reader.usage() is None
    assert reader.text() == "hi"


def test_a_json_answer_passes_byte_for_byte():
    body = (
        b'{"id":"c", "choices":[{"index":0,"message":{"content":"hi"}}],"new":1,'
        b'"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"newer":4}}'
    )
    made = call(stream=False)
    reader = CODEC.reader(made, target())
    for index in range(len(body)):
        reader.feed(body[index : index + 1])
    assert (reader.finish(), reader.end(Usage(1, 2))) == (b"", body)


@pytest.mark.parametrize("pieces", [(11,), (6, 5), (4, 4, 3)])
def test_an_answer_that_is_too_long_is_cut_off(monkeypatch, pieces):
    monkeypatch.setattr(openai, "MAX_ANSWER_BYTES", 10)
    reader = CODEC.reader(call(stream=False), target())
    for size in pieces[:-1]:
        reader.feed(b"x" * size)
    with pytest.raises(UpstreamInterrupted):
        reader.feed(b"x" * pieces[-1])


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"choices":[', b"{}", b"[]"])
def test_what_is_not_an_answer_is_an_interruption(body):
    reader = CODEC.reader(call(stream=False), target())
    reader.feed(body)
    with pytest.raises(UpstreamInterrupted):
        reader.finish()


def test_the_request_is_rebuilt_with_the_targets_model_and_an_asked_usage():
    request = CODEC.encode(call(temperature=0.5), target(model="deepseek-chat"))
    sent = msgspec.json.decode(request.body)
    assert sent == {
        "model": "deepseek-chat",
        "messages": [{"role": "user", "content": "x"}],
        "stream": True,
        "temperature": 0.5,
        "stream_options": {"include_usage": True},
    }
    assert request.path == "/v1/chat/completions"


def test_a_request_that_needs_no_edit_is_sent_as_it_came_and_edits_change_no_call():
    made = Call(bytes(16), "chat", 0)
    body = b'{"model":"gpt-4o","temperature":1.50,"messages":[{"role":"user","content":"\\u0061"}]}'
    parse(body, made)
    members = dict(made.members)
    assert CODEC.encode(made, target()).body == body
    assert msgspec.json.decode(CODEC.encode(made, target(model="other")).body)["model"] == "other"
    assert made.members == members


def test_an_alias_shows_the_callers_name():
    out = read(call(), target(model="other"), [STREAM])[0]
    assert {chunk["model"] for chunk in payloads(out)} == {"gpt-4o"}


def test_a_limit_goes_under_the_name_that_the_model_takes():
    made = call(max_tokens=7)
    request = CODEC.encode(made, target(wants_max_completion_tokens=True))
    sent = msgspec.json.decode(request.body)
    assert sent["max_completion_tokens"] == 7
    assert "max_tokens" not in sent
    assert [(note.name, note.value) for note in made.notes] == [
        ("x-headgate-renamed", "max_tokens=max_completion_tokens")
    ]


def test_a_null_limit_does_not_hide_the_one_that_was_given():
    made = call(max_tokens=7, max_completion_tokens=None)
    sent = msgspec.json.decode(CODEC.encode(made, target(wants_max_completion_tokens=True)).body)
    assert sent["max_completion_tokens"] == 7


def test_unknown_members_pass_to_open_hosts_and_are_refused_by_strict_ones():
    open_host = Host(name="h", base_url="http://h/v1")
    assert msgspec.json.decode(CODEC.encode(call(foo=1), target(open_host)).body)["foo"] == 1
    with pytest.raises(CallerError, match="Unknown parameter: 'foo'"):
        CODEC.encode(call(foo=1), target())


@pytest.mark.parametrize(
    ("members", "wrong"),
    [
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"messages": [{"role": "user", "name": "a b", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]}, "messages"),
    ],
)
def test_what_only_strict_hosts_look_into_is_refused_there(members, wrong):
    assert CODEC.encode(call(stream=False, **members), target(Host(name="h", base_url="http://h/v1")))
    with pytest.raises(CallerError, match=wrong):
        CODEC.encode(call(stream=False, **members), target())


def test_deepseeks_usage_inside_the_last_chunk_becomes_a_chunk_of_its_own():
    host = Host(name="deepseek", base_url="http://h/v1")
    usage = '"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6,"prompt_cache_hit_tokens":3}'
    last = '{"choices":[{"index":0,"delta":{"content":"!"},"finish_reason":"stop"}],' + usage + "}"
    out, reader = read(call(stream_options={"include_usage": True}), target(host), [events(last, "[DONE]")])
    first, usage = payloads(out)
    assert first["usage"] is None
    assert first["choices"][0]["logprobs"] is None
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 6
    assert reader.usage() == Usage(4, 2, 3)


@pytest.mark.parametrize(
    ("status", "body", "seen", "code"),
    [
        (400, b'{"error":{"message":"no","type":"invalid_request_error","param":"a","code":"x"}}', 400, "x"),
        (401, b"{}", 502, "provider_denied"),
        (429, b'{"error":{"message":"slow","type":"tokens"}}', 429, "rate_limit_exceeded"),
        (429, b'{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}', 502, "provider_denied"),
        (500, b"<html>", 500, None),
        (503, b"", 503, "server_is_overloaded"),
        (529, b"", 503, "server_is_overloaded"),
        (302, b"", 502, "upstream_interrupted"),
        (404, b'{"error":"gone"}', 404, None),
        (418, b"", 502, None),
    ],
)
def test_each_refusal_has_its_meaning(status, body, seen, code):
    error = refusal(Head(status, ()), body)
    assert (error.http_status, error.code) == (seen, code)


@pytest.mark.parametrize("status", [401, 403, 402])
def test_what_a_provider_says_of_our_credential_is_not_passed_on(status):
    said = b'{"error":{"message":"Incorrect API key provided: sk-canary","code":"invalid_api_key"}}'
    assert "sk-canary" not in refusal(Head(status, ()), said).message


@pytest.mark.parametrize(
    ("value", "wait"), [(b"2", 2.0), (b"-1", None), (b"1e9", None), (b"x", None), (b"0", 0.0)]
)
def test_an_absurd_retry_after_is_not_passed_on(value, wait):
    assert refusal(Head(503, ((b"retry-after", value),)), b"").retry_after_s == wait


@pytest.mark.parametrize(("status", "elsewhere"), [(404, True), (400, False), (413, False), (422, False)])
def test_only_a_model_that_is_not_there_may_be_elsewhere(status: int, elsewhere: bool) -> None:
    error = refusal(Head(status, ()), b'{"error":{"message":"no"}}')
    assert (error.another_target, error.same_target) == (elsewhere, False)


@pytest.mark.parametrize(("said", "again"), [(b"false", False), (b"true", True), (None, True)])
def test_a_provider_that_says_that_a_retry_is_of_no_use_is_believed(said, again):
    rows = () if said is None else ((b"x-should-retry", said),)
    error = refusal(Head(500, rows), b"{}")
    assert (error.another_target, error.same_target) == (True, again)
    assert error.retry is (None if again else False)  # so that the client does not, either
    assert refusal(Head(500, ()), b"{}").same_target


def test_a_country_that_is_not_served_is_a_class_of_its_own() -> None:
    said = b'{"error":{"message":"Country not supported","code":"unsupported_country_region_territory"}}'
    error = refusal(Head(403, ()), said)
    assert isinstance(error, UpstreamRegion)
    assert (error.another_target, error.same_target, error.code) == (
        True, False, "unsupported_country_region_territory",
    )  # fmt: skip
