"""The official SDK cannot tell us from OpenAI."""

import asyncio
import json
import urllib.error
import urllib.request

import openai
import pytest
from tests.surfaces.clients import openai_client
from tests.surfaces.conftest import Gateway


@pytest.fixture
def client(simulated):
    with openai.OpenAI(base_url=simulated.base, api_key=simulated.key, max_retries=0) as made:
        yield made


HELLO = [{"role": "user", "content": "Say pong"}]


def test_a_chat_completion(client):
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, max_tokens=50)
    assert "pong" in answer.choices[0].message.content.lower()
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


@pytest.mark.parametrize(
    "model",
    ["gpt-3.5-turbo", "gpt-3.5-turbo-16k", "gpt-4", "gpt-4-turbo", "gpt-4o", "gpt-5", "o3", "gpt-4.1-nano"],
)
def test_every_model_of_the_guide_answers(client, model):
    raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO, max_tokens=50)
    assert raw.parse().choices[0].message.content
    assert raw.headers["x-headgate-simulated"] == "true"
    renamed = raw.headers.get("x-headgate-renamed")
    assert (renamed == "max_tokens=max_completion_tokens") is (model in {"gpt-5", "o3"})


def test_a_stream_has_openais_grammar(client):
    stream = client.chat.completions.create(
        model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1
    assert [c.choices[0].finish_reason for c in chunks[:-1]][-1] == "stop"


def test_usage_is_never_sent_unasked(client):
    for chunk in client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True):
        assert chunk.choices
        assert chunk.usage is None


def test_stream_and_json_say_and_cost_the_same(client):
    whole = client.chat.completions.create(model="gpt-4o", messages=HELLO)
    parts = list(
        client.chat.completions.create(
            model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert text == whole.choices[0].message.content
    assert parts[-1].usage == whole.usage


def test_the_headers_of_an_answer(client):
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)
    headers = raw.headers
    assert headers["x-request-id"].startswith("req_")
    assert len(headers["x-request-id"]) == 36
    assert headers["openai-version"] == "2020-10-01"
    assert int(headers["openai-processing-ms"]) >= 0
    assert float(headers["x-headgate-cost"]) > 0
    assert not [name for name in headers if name.startswith("x-ratelimit")]


@pytest.mark.parametrize("change", [{"model": "gpt-4oo"}, {"temperature": 3}, {"model": "sim-500"}])
def test_an_error_has_the_headers_of_an_answer(client, change):
    served = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO).headers
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**({"model": "gpt-4o", "messages": HELLO} | change))
    headers = caught.value.response.headers
    for name in ("openai-version", "openai-organization", "openai-project", "x-headgate-simulated"):
        assert headers[name] == served[name]
    assert int(headers["openai-processing-ms"]) >= 0


def test_a_caller_without_a_key_is_told_nothing_of_anybody(simulated):
    with openai_client(simulated.base, "x") as stranger, pytest.raises(openai.AuthenticationError) as caught:
        stranger.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert caught.value.response.headers["openai-version"] == "2020-10-01"
    assert "openai-organization" not in caught.value.response.headers


def test_the_callers_own_request_id_is_logged_and_never_ours(tmp_path):
    gateway = Gateway(tmp_path)
    try:
        with openai.OpenAI(base_url=gateway.base, api_key=gateway.key, max_retries=0) as client:
            ask = client.chat.completions.with_raw_response
            own = {"X-Client-Request-Id": "trace-4711/a b"}
            raw = ask.create(model="gpt-4o", messages=HELLO, extra_headers=own)
            ask.create(model="gpt-4o", messages=HELLO)
            with pytest.raises(openai.NotFoundError) as refused:
                ask.create(model="gpt-4oo", messages=HELLO, extra_headers=own)
        for wrong in ("x" * 513, "größe"):  # the second one the SDK itself refuses
            names = {"Authorization": f"Bearer {gateway.key}", "X-Client-Request-Id": wrong}
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(urllib.request.Request(f"{gateway.base}/models", headers=names))
            assert b"at most 512 ASCII" in caught.value.read()
    finally:
        _, _, told = gateway.stop()
    lines = [json.loads(line) for line in told.splitlines()]
    assert [(line["request_id"], line["client_request_id"], line["model"]) for line in lines] == [
        (raw.headers["x-request-id"], "trace-4711/a b", "gpt-4o"),
        (refused.value.request_id, "trace-4711/a b", "gpt-4oo"),
    ]


def test_a_model_is_the_row_of_the_list(client):
    raw = client.models.with_raw_response.list()
    rows = {model.id: model for model in raw.parse().data}
    assert client.models.retrieve("gpt-4o") == rows["gpt-4o"]
    assert raw.headers["openai-version"] == "2020-10-01"


def test_a_stream_is_read_raw_and_cancelled(simulated):
    count = [{"role": "user", "content": "Count from 1 to 400"}]

    async def read() -> list[str]:
        async with openai.AsyncOpenAI(base_url=simulated.base, api_key=simulated.key) as client:
            completions = client.chat.completions
            async with completions.with_streaming_response.create(
                model="gpt-4o", messages=count, stream=True
            ) as raw:
                assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"
                lines = [line async for line in raw.iter_lines() if line]
            stream = await completions.create(model="gpt-4o", messages=count, stream=True)
            await anext(stream)
            cut = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
            cut.cancel()
            await asyncio.gather(cut, return_exceptions=True)
            await stream.close()
            return lines

    lines = asyncio.run(read())
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"


def test_tools_are_called_with_arguments_from_the_prompt(client):
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    answer = client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "北京天气怎么样？"}], tools=[tool]
    )
    [call] = answer.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "北京"}
    assert "北京" in call.function.arguments
    assert answer.choices[0].finish_reason == "tool_calls"


def test_completions_embeddings_and_models(client):
    assert (
        client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Say hi", max_tokens=9)
        .choices[0]
        .text
    )
    made = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert [len(row.embedding) for row in made.data] == [1536, 1536]
    floats = client.embeddings.create(model="text-embedding-3-small", input=["a"], encoding_format="float")
    assert floats.data[0].embedding == pytest.approx(made.data[0].embedding, abs=1e-6)
    assert (
        len(client.embeddings.create(model="text-embedding-3-large", input=[1, 2, 3]).data[0].embedding)
        == 3072
    )
    assert "gpt-4o" in {model.id for model in client.models.list()}
    assert client.models.retrieve("gpt-4o").object == "model"


def test_the_asynchronous_client(simulated):
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=simulated.base, api_key=simulated.key) as client:
            answers = await asyncio.gather(
                *(client.chat.completions.create(model="gpt-4o", messages=HELLO) for _ in range(20))
            )
            stream = await client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            return [*(answer.choices[0].message.content for answer in answers), text]

    assert len(set(asyncio.run(ask()))) == 1


@pytest.mark.parametrize(
    ("change", "kind", "code"),
    [
        ({"model": "gpt-4oo"}, openai.NotFoundError, "model_not_found"),
        ({"temperature": 3}, openai.BadRequestError, "decimal_above_max_value"),
        ({"messages": []}, openai.BadRequestError, "empty_array"),
        ({"messages": [{"content": "x"}]}, openai.BadRequestError, "missing_required_parameter"),
        ({"extra_body": {"foo": 1}}, openai.BadRequestError, "unknown_parameter"),
        ({"max_tokens": 10**6}, openai.BadRequestError, "invalid_value"),
        (
            {"model": "gpt-4", "messages": [{"role": "user", "content": "long " * 9000}]},
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        ({"model": "gpt-4", "max_tokens": 8192}, openai.BadRequestError, "context_length_exceeded"),
        ({"model": "sim-429"}, openai.RateLimitError, "rate_limit_exceeded"),
        ({"model": "sim-500"}, openai.InternalServerError, None),
        ({"model": "sim-503"}, openai.InternalServerError, "server_is_overloaded"),
    ],
)
def test_each_error_of_the_guide(client, change, kind, code):
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**({"model": "gpt-4o", "messages": HELLO} | change))
    assert caught.value.code == code
    assert caught.value.request_id.startswith("req_")


def test_a_wrong_key_and_no_key(simulated):
    with (
        openai_client(simulated.base, "sk-proj-abcdefghijklmnop") as wrong,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        wrong.models.list()
    assert caught.value.code == "invalid_api_key"
    assert "abcdefghij" not in caught.value.message
