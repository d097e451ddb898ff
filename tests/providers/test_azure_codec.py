"""Azure OpenAI: where requests go and what they show, its filters' verdicts, its errors, and its settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.providers import azure_wire as wire
from tests.providers.asking import ID, chat, chunks, message, notes, put_together, read
from tests.providers.azure_wire import DONE, FIRST, PROMPT, body, data, frame, stream

from headgate.app import build_routes
from headgate.config import ServeOptions, load
from headgate.credentials import Bearer
from headgate.errors import (
    NotFound,
    UpstreamDenied,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamOverloaded,
    UpstreamRefused,
)
from headgate.http.parse import parse
from headgate.money.cost import cost
from headgate.ports import Head
from headgate.providers.registry import CODECS, constant_headers
from headgate.settings.upstreams import ConfigError
from headgate.values import Book, Call, Host, Model, Operation, Prices, Target, Usage

CODEC = CODECS["azure"]["chat"]
ASKED = {"stream_options": {"include_usage": True}}
PRICES = Prices(2_500_000, 10_000_000, 1_250_000, 2_500_000, 10_000_000, 2_500_000, 10_000_000)
NOW = 1_790_000_000_000_000
TEXT = "你好, \u2028 world"
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}


def to(dated: bool = True, model: str = "prod-4o", **given: Any) -> Target:
    """A deployment, by the dated API or by `/openai/v1`."""
    path = "/openai/deployments" if dated else "/openai/v1"
    version = given.pop("api_version", "2024-10-21" if dated else "")
    host = Host(name="a", kind="azure", base_url=f"http://h{path}", api_version=version, **given)
    return Target(host=host, model=Model(name=model), prices=PRICES, base_path=path, headers=(("a", "b"),))


TO = to()


# ── requests ────────────────────────────────────────────────────────────────────────────────────


def test_a_deployment_in_the_path_to_the_byte() -> None:
    request = CODEC.encode(chat(temperature=0.5), TO)
    assert request.path == "/openai/deployments/prod-4o/chat/completions?api-version=2024-10-21"
    assert request.body == (
        b'{"model":"prod-4o","messages":[{"role":"user","content":"Hello"}],"temperature":0.5}'
    )
    assert request.headers is TO.headers


def test_the_newer_api_has_it_in_the_body_alone() -> None:
    request = CODEC.encode(chat(True), to(False))
    assert request.path == "/openai/v1/chat/completions"
    assert msgspec.json.decode(request.body)["model"] == "prod-4o"
    assert msgspec.json.decode(request.body)["stream_options"] == {"include_usage": True}
    preview = CODEC.encode(chat(), to(False, api_version="preview"))
    assert preview.path == "/openai/v1/chat/completions?api-version=preview"


@pytest.mark.parametrize("operation", ["completions", "embeddings"])
def test_the_other_operations(operation: Operation) -> None:
    made = Call(ID, operation, 0)
    what = {"prompt": "Hi"} if operation == "completions" else {"input": [1, 2]}
    parse(msgspec.json.encode({"model": "m", **what}), made)
    request = CODECS["azure"][operation].encode(made, TO)
    assert request.path == f"/openai/deployments/prod-4o/{operation}?api-version=2024-10-21"
    assert msgspec.json.decode(request.body) == {"model": "prod-4o", **what}


def test_images() -> None:
    made = Call(ID, "images", 0)
    parse(b'{"model":"m","prompt":"a cat"}', made)
    codec = CODECS["azure"]["images"]
    request = codec.encode(made, TO)
    assert request.path == "/openai/deployments/prod-4o/images/generations?api-version=2024-10-21"
    assert msgspec.json.decode(request.body) == {"model": "prod-4o", "prompt": "a cat"}
    assert codec.encode(made, to(False)).path == "/openai/v1/images/generations"
    error = codec.error(Head(400, ()), msgspec.json.encode(wire.REFUSED))
    assert error.code == "content_filter"


@pytest.mark.parametrize("name", ["a/b", "../x", "a?b", "a b", "", "é", "a#b", "a%2f"])
def test_a_name_that_would_lead_elsewhere(name: str) -> None:
    with pytest.raises(NotFound) as caught:
        CODEC.encode(chat(), to(model=name))
    assert caught.value.code == "model_not_found"


def test_members_that_openai_does_not_have_pass() -> None:
    made = chat(data_sources=[{"type": "azure_search"}])
    assert msgspec.json.decode(CODEC.encode(made, TO).body)["data_sources"] == [{"type": "azure_search"}]
    assert notes(made) == []


def test_a_key_or_a_token() -> None:
    key = Host(name="a", kind="azure", base_url="http://h", api_key="k1")
    assert ("api-key", "k1") in constant_headers(key, {})
    assert "authorization" not in dict(constant_headers(key, {}))
    bearer = Bearer()
    keyless = to(bearer=bearer)
    with pytest.raises(UpstreamOverloaded, match="fetching its credential"):
        CODEC.encode(chat(), keyless)
    bearer.renew("t1")
    assert CODEC.encode(chat(), keyless).headers == (("a", "b"), ("authorization", "Bearer t1"))
    bearer.renew("", "no")
    with pytest.raises(UpstreamDenied):
        CODEC.encode(chat(), keyless)


# ── answers ─────────────────────────────────────────────────────────────────────────────────────

ANSWERS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], str]] = {
    "text": ({"content": TEXT}, [{"content": TEXT[:4]}, {"content": TEXT[4:]}], "stop"),
    "a call": (
        {"content": None, "tool_calls": [CALL]},
        [
            {"tool_calls": [{"index": 0, **CALL, "function": {"name": "weather", "arguments": ""}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":"Paris"}'}}]},
        ],
        "tool_calls",
    ),
    "cut": ({"content": "Hi"}, [{"content": "Hi"}], "length"),
    "filtered half-way": ({"content": "Hi"}, [{"content": "Hi"}], "content_filter"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_says_what_a_whole_answer_says_and_costs_the_same(name: str) -> None:
    said, deltas, finish = ANSWERS[name]
    one, counted = read(CODEC, chat(), TO, [body(said, finish)])
    many, count = read(CODEC, chat(True, **ASKED), TO, [stream(*deltas, finish=finish)])
    assert message(one)["finish_reason"] == finish
    whole = message(one)
    together = put_together(many)
    if whole["content"] is None:
        assert not together.pop("content")
        whole.pop("content")
    assert together == whole
    assert counted == count == Usage(19, 7, 8, 0, 2)
    assert cost(counted, PRICES) == cost(count, PRICES)
    assert chunks(many)[-1]["usage"] == msgspec.json.decode(one)["usage"] | chunks(many)[-1]["usage"]


def test_a_stream_cut_at_every_byte_reads_the_same() -> None:
    given = stream({"content": TEXT}, tail=frame(None))
    whole, usage = read(CODEC, chat(True, **ASKED), TO, [given])
    assert usage == Usage(19, 7, 8, 0, 2)
    for cut in range(1, len(given)):
        assert read(CODEC, chat(True, **ASKED), TO, [given[:cut], given[cut:]])[0] == whole
    assert read(CODEC, chat(True, **ASKED), TO, [given[at : at + 1] for at in range(len(given))])[0] == whole


def test_a_whole_answer_keeps_what_the_filters_say() -> None:
    given = body({"content": "Hi"})
    out, _ = read(CODEC, chat(), TO, [given[at : at + 1] for at in range(len(given))])
    answer = json.loads(out)
    assert (answer["model"], answer["prompt_filter_results"]) == ("m", PROMPT)
    assert answer["choices"][0]["content_filter_results"] == wire.SAFE
    assert answer["choices"][0]["message"]["content"] == "Hi"


@pytest.mark.parametrize("asked", [{}, ASKED], ids=["no count", "a count"])
def test_the_empty_first_chunk_is_never_sent_and_its_verdict_comes_with_the_next(asked: Any) -> None:
    out, _ = read(CODEC, chat(True, **asked), TO, [stream({"content": "Hi"})])
    seen = chunks(out)
    if asked:
        assert seen.pop()["choices"] == []
    assert all(chunk["choices"] for chunk in seen)
    assert [chunk.get("prompt_filter_results") for chunk in seen] == [PROMPT, None, None]
    assert seen[0]["choices"][0]["delta"] == {"content": "", "refusal": None, "role": "assistant"}


def test_a_stream_that_holds_nothing_but_the_first_chunk_has_broken_off() -> None:
    with pytest.raises(UpstreamInterrupted):
        read(CODEC, chat(True, **ASKED), TO, [FIRST])


def test_what_a_filter_says_beside_the_stream_is_completed() -> None:
    given = stream({"content": "Hi"}, tail=frame(None))
    seen = chunks(read(CODEC, chat(True, **ASKED), TO, [given])[0])
    for member in ("id", "created", "model", "object", "system_fingerprint"):
        assert len({chunk[member] for chunk in seen}) == 1
    assert seen[0]["id"] == wire.COMMON["id"]
    late = seen[-2]["choices"][0]
    assert (late["delta"], late["finish_reason"], late["logprobs"]) == ({}, None, None)
    assert late["content_filter_offsets"]["end_offset"] == 198


def test_an_answer_that_a_filter_beside_the_stream_stops_ends_with_its_reason() -> None:
    given = FIRST + frame({"role": "assistant"}) + frame({"content": "Hey"}) + frame(None, "content_filter")
    for end in (DONE, b""):  # some models' streams end there, without a last event
        out, usage = read(CODEC, chat(True), TO, [given + end])
        assert put_together(out) == {"role": "assistant", "content": "Hey", "finish_reason": "content_filter"}
        assert usage is None


def test_a_completions_chunk_without_a_text_has_an_empty_one() -> None:
    made = Call(ID, "completions", 0)
    parse(b'{"model":"m","prompt":"x","stream":true}', made)
    late = frame(None, "stop")
    said = {"choices": [{"text": "Hi", "index": 0, "finish_reason": None, "logprobs": None}], **wire.COMMON}
    out, _ = read(CODECS["azure"]["completions"], made, TO, [FIRST + data(said) + late + DONE])
    assert [chunk["choices"][0]["text"] for chunk in chunks(out)] == ["Hi", ""]
    assert {(chunk["id"], chunk["object"]) for chunk in chunks(out)} == {
        (wire.COMMON["id"], "text_completion")
    }


def test_embeddings() -> None:
    made = Call(ID, "embeddings", 0)
    parse(b'{"model":"m","input":"x"}', made)
    given = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "model": "x",
    }
    usage = {"prompt_tokens": 2, "total_tokens": 2}
    codec = CODECS["azure"]["embeddings"]
    out, count = read(codec, made, to(False), [msgspec.json.encode({**given, "usage": usage})])
    assert count == Usage(2, 0)
    assert msgspec.json.decode(out) == {**given, "model": "m", "usage": usage}


# ── errors ──────────────────────────────────────────────────────────────────────────────────────


def refusal(status: int, error: Any, *headers: tuple[bytes, bytes]) -> Any:
    return CODEC.error(Head(status, headers), msgspec.json.encode(error))


def test_a_prompt_that_a_filter_refuses() -> None:
    error = refusal(400, wire.REFUSED)
    assert isinstance(error, UpstreamRefused)
    assert (error.http_status, error.error_type) == (400, "invalid_request_error")
    assert (error.code, error.param) == ("content_filter", "prompt")
    assert error.message.endswith("and retry. Filtered: jailbreak, violence (medium).")
    assert not error.another_target


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_error_after_a_200_has_the_status_that_it_would_have_had(streamed: bool) -> None:
    begun = FIRST + frame({"content": "Hi"}) if streamed else b""

    def raised(error: Any) -> Any:
        given = begun + (data(error) if streamed else msgspec.json.encode(error))
        with pytest.raises(UpstreamError) as caught:
            read(CODEC, chat(streamed), TO, [given])
        return caught.value

    assert (raised(wire.REFUSED).http_status, raised(wire.REFUSED).code) == (400, "content_filter")
    bare = {"error": {"code": "content_filter", "message": "no", "type": None, "param": None}}
    assert (raised(bare).http_status, raised(bare).message) == (400, "no")
    slow = raised({"error": {"code": "429", "message": "Over the token rate limit. Retry after 24 seconds."}})
    assert (slow.http_status, slow.code, slow.error_type) == (429, "rate_limit_exceeded", "tokens")
    assert slow.retry_after_s == 24.0
    broken = raised({"error": {"code": None, "message": "The server had an error.", "type": "server_error"}})
    assert broken.http_status == (500 if streamed else 502)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        (((b"retry-after-ms", b"1500"), (b"retry-after", b"2")), 1.5),
        (((b"retry-after", b"24"),), 24.0),
        ((), 7.0),
    ],
)
def test_how_long_to_wait(headers: tuple[tuple[bytes, bytes], ...], wait: float) -> None:
    said = "Requests have exceeded call rate limit of your pricing tier. Please retry after 7 seconds."
    error = refusal(429, {"error": {"code": "429", "message": said}}, *headers)
    assert (error.retry_after_s, error.error_type) == (wait, "requests")


@pytest.mark.parametrize(
    ("status", "given", "seen", "code"),
    [
        (404, {"error": {"code": "DeploymentNotFound", "message": "not there"}}, 404, "model_not_found"),
        (404, {"error": {"code": "404", "message": "Resource not found"}}, 404, None),
        (
            401,
            {"statusCode": 401, "message": "Unauthorized. Access token is missing."},
            502,
            "provider_denied",
        ),
        (401, {"error": {"code": "401", "message": "invalid subscription key"}}, 502, "provider_denied"),
        (403, {"error": {"code": "403", "message": "Virtual Network"}}, 502, "provider_denied"),
        (429, {"error": {"code": "insufficient_quota", "message": "x"}}, 502, "provider_denied"),
        (400, {"error": {"code": "OperationNotSupported", "message": "x"}}, 400, "OperationNotSupported"),
        (400, {"error": {"code": "ResponsibleAIPolicyViolation", "message": "x"}}, 400, "content_filter"),
        (408, {"error": {"code": "Timeout", "message": "x"}}, 502, None),
        (503, {"error": {"code": "503", "message": "x"}}, 503, "server_is_overloaded"),
        (500, "<html>", 500, None),
    ],
)
def test_each_refusal_has_its_meaning(status: int, given: Any, seen: int, code: str | None) -> None:
    error = refusal(status, given)
    assert (error.http_status, error.code) == (seen, code)


@pytest.mark.parametrize(
    "inner", [None, 3, {}, {"content_filter_result": []}, {"content_filter_result": {"a": 1}}]
)
def test_a_filter_that_does_not_say_why(inner: Any) -> None:
    error = refusal(400, {"error": {"code": "content_filter", "message": "no", "innererror": inner}})
    assert error.message == "no"


# ── the settings ────────────────────────────────────────────────────────────────────────────────

ENDPOINT = "https://res.openai.azure.com"


def host_of(folder: Path, toml: str, name: str = "azure", **env: str) -> Host:
    (folder / "h.toml").write_text(f'[[providers]]\nname = "{name}"\n{toml}')
    (host,) = load(ServeOptions(config=str(folder / "h.toml"), env_file=""), env).hosts
    return host


@pytest.mark.parametrize(
    ("base", "version", "path"),
    [
        ("", "", "/openai/v1"),
        ("/", "2024-10-21", "/openai/deployments"),
        ("/openai", "", "/openai/v1"),
        ("/openai/", "2025-04-01-preview", "/openai/deployments"),
        ("/openai/v1/", "", "/openai/v1"),
        ("/openai/v1", "preview", "/openai/v1"),
        ("/team/openai", "2024-10-21", "/team/openai/deployments"),
    ],
)
def test_where_a_resource_is(tmp_path: Path, base: str, version: str, path: str) -> None:
    host = host_of(tmp_path, f'base_url = "{ENDPOINT}{base}"\napi_key = "k"\napi_version = "{version}"')
    assert (host.base_url, host.api_version, host.api_key) == (ENDPOINT + path, version, "k")


CLIENT = 'client_id = "c1"\nclient_secret = "env:SECRET"\ntenant = "t1"\n'


@pytest.mark.parametrize(
    ("end", "authority", "scope"),
    [
        ("azure.com", "https://login.microsoftonline.com", "https://cognitiveservices.azure.com/.default"),
        (
            "azure.cn",
            "https://login.partner.microsoftonline.cn",
            "https://cognitiveservices.azure.cn/.default",
        ),
        ("azure.us", "https://login.microsoftonline.us", "https://cognitiveservices.azure.us/.default"),
    ],
)
def test_each_cloud_has_its_authority_and_scope(tmp_path: Path, end: str, authority: str, scope: str) -> None:
    toml = f'kind = "azure"\nbase_url = "https://res.openai.{end}"\n{CLIENT}'
    source = host_of(tmp_path, toml, "cn", SECRET="s1").tokens
    assert source is not None
    assert (source.account, source.secret, source.scope) == ("c1", "s1", scope)
    assert source.url == f"{authority}/t1/oauth2/v2.0/token"
    own = 'authority = "https://sts.example/"\ntoken_scope = "https://ai.azure.com/.default"\n'
    source = host_of(tmp_path, toml + own, "cn", SECRET="s1").tokens
    assert source is not None
    assert (source.url, source.scope) == (
        "https://sts.example/t1/oauth2/v2.0/token",
        "https://ai.azure.com/.default",
    )


def test_a_client_is_asked_with_its_token_alone(tmp_path: Path) -> None:
    variables = {"SECRET": "s1", "AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": ENDPOINT}
    host = host_of(tmp_path, CLIENT, **variables)
    assert (host.api_key, host.base_url, host.keyless) == ("", f"{ENDPOINT}/openai/v1", False)
    assert host.bearer is not None


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('api_key = "k"', "base_url is missing: give the resource's endpoint"),
        (f'base_url = "{ENDPOINT}/openai/deployments/x"', "endpoint alone"),
        (f'base_url = "{ENDPOINT}/openai/v1"\napi_version = "2024-10-21"', "leave one of them out"),
        (f'base_url = "{ENDPOINT}"\napi_version = "2024-10-21&x=1"', "is none, such as"),
        (f'base_url = "{ENDPOINT}"\nclient_id = "c"\ntenant = "t"', "client_secret is missing"),
        (f'base_url = "{ENDPOINT}"\nclient_id = "c"\nclient_secret = "s"', "tenant is missing"),
        (f'base_url = "{ENDPOINT}"\ntenant = "t"\nclient_secret = "s"', "client_id is missing"),
        (f'base_url = "{ENDPOINT}"\nclient_id = "c"\nclient_secret = "stored:x"\ntenant = "t"', "stored one"),
        (f'base_url = "{ENDPOINT}"\nclient_id = "c"\nclient_secret = "s"\ntenant = "a?b"', "token_url"),
        (f'base_url = "{ENDPOINT}"\n{CLIENT}api_key = "k"', "give one of"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, toml: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        host_of(tmp_path, toml, SECRET="s")


def test_a_key_without_its_endpoint_is_left_alone_and_said() -> None:
    config = load(ServeOptions(env_file=""), {"AZURE_OPENAI_API_KEY": "k", "OPENAI_API_KEY": "sk-a"})
    assert [host.name for host in config.hosts] == ["openai"]
    assert config.ignored == ("AZURE_OPENAI_API_KEY (without AZURE_OPENAI_ENDPOINT)",)
    variables = {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": f"{ENDPOINT}/"}
    (host,) = load(ServeOptions(env_file=""), variables).hosts
    assert (host.name, host.api_key, host.base_url) == ("azure", "k", f"{ENDPOINT}/openai/v1")
    (host,) = load(ServeOptions(env_file=""), variables | {"OPENAI_API_VERSION": "2024-10-21"}).hosts
    assert host.base_url == f"{ENDPOINT}/openai/deployments"


def test_a_deployment_has_the_price_and_the_facts_of_its_model(tmp_path: Path) -> None:
    toml = (
        '[[providers]]\nname = "cn"\nkind = "azure"\nbase_url = "https://res.openai.azure.cn"\n'
        'api_key = "k"\n[providers.deployments]\nprod-4o = "gpt-4o"\nthink = "o3-mini"\n'
    )
    (tmp_path / "h.toml").write_text(toml)
    config = load(ServeOptions(config=str(tmp_path / "h.toml"), env_file=""), {})
    assert config.hosts[0].example == "prod-4o"  # what there is, for the first try
    routes = build_routes(config, "i")

    def target(name: str) -> Target:
        (found,) = routes.candidates(name, Book.REAL, NOW)
        return found

    prod = target("prod-4o")
    assert (prod.model.name, prod.model.tokenizer, prod.model.exact) == ("prod-4o", "o200k_base", True)
    assert prod.prices == prod.costs == PRICES
    assert target("gpt-4o") == target("cn/prod-4o") == prod  # by the model's own name, the deployment of it
    assert target("think").model.wants_max_completion_tokens
    assert target("cn/gpt-4o-mini").prices is not None  # most are named after their model
    assert target("cn/other").prices is None
    named = list(routes.named(Book.REAL).items())
    assert named[:-1] == [(name, "cn") for name in ("prod-4o", "think", "gpt-4o", "o3-mini")]


def test_the_documented_settings_can_be_used(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/settings.md").read_text(encoding="utf-8")
    toml = text.partition("## Providers that need more than a key")[2].split("```")[1].removeprefix("toml")
    account = tmp_path / "account.json"
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account.write_text(
        json.dumps({"client_email": "a", "private_key": key.decode(), "token_uri": "https://t.example/t"})
    )
    (tmp_path / "h.toml").write_text(toml.replace("/etc/headgate/account.json", str(account)))
    names = ("AZURE_OPENAI_API_KEY", "AZURE_CLIENT_SECRET", "AZURE_CN_CLIENT_SECRET", "CO_API_KEY")
    config = load(ServeOptions(config=str(tmp_path / "h.toml"), env_file=""), dict.fromkeys(names, "s"))
    assert not [host.name for host in config.hosts if host.keyless]
    routes = build_routes(config, "i")
    found = routes.candidates("gpt-4o", Book.REAL, NOW)
    assert [(one.host.name, one.model.name, one.prices) for one in found] == [
        ("azure", "prod-4o", PRICES),
        ("azure-eu", "gpt-4o", PRICES),
    ]
