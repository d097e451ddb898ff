"""The official OpenAI SDK reaches Bedrock through a running gateway: signed calls, tools, streams, exact books."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from tests.answers import http_answer, json_answer
from tests.faults.worker import ONE_ATTEMPT
from tests.providers import bedrock_wire as wire
from tests.surfaces.conftest import Gateway, complaints
from tests.surfaces.test_claude import ASK, TOOLS, spent
from tests.surfaces.test_gemini import loop_of
from tests.upstream import Received, ScriptedUpstream

MODEL = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
PATH = "/v1/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/"
INPUT, OUTPUT, READ, WRITTEN = 1_100, 5_500, 110, 1_375  # nano-USD per token, as the shipped book has them
COST = 20 * INPUT + 15 * OUTPUT
CACHED = COST + 80 * READ + 40 * WRITTEN
THOUGHT = wire.thought("Which city?")
TOOL, BARE = wire.use("weather", "tooluse_1", {"city": "Paris"}), wire.use("weather", "tooluse_2")
TEXT = wire.text("It is sunny in Paris.")
EVENTS = [("content-type", "application/vnd.amazon.eventstream")]


def whole(*blocks: dict[str, Any], **more: Any) -> bytes:
    return http_answer(wire.body(*blocks, **more), headers=[("content-type", "application/json")])


def streamed(*blocks: dict[str, Any], **more: Any) -> bytes:
    return http_answer(wire.stream(*blocks, **more), headers=EVENTS)


def refusal(status: int, kind: str, message: str) -> bytes:
    return json_answer({"message": message}, status, [("x-amzn-errortype", f"{kind}:http://x/")])


def is_signed(asked: Received, port: int, keys: Credentials) -> bool:
    """Whether a request that arrived is signed for what arrived, as AWS itself looks at it."""
    given = str(asked.get("authorization"))
    names = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"content-type", "host", "x-amz-date"} <= set(names)
    assert asked.get("host") == f"127.0.0.1:{port}"
    headers = {name: str(asked.get(name)) for name in names}
    request = AWSRequest("POST", f"http://127.0.0.1:{port}{asked.path}", headers, asked.body)
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(keys, "bedrock", "eu-central-1")
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return given.startswith(f"AWS4-HMAC-SHA256 Credential={keys.access_key}/") and given.endswith(signature)


@contextmanager
def serving(
    folder: Path, settings: str, *answers: bytes, **environment: str
) -> Iterator[tuple[Any, Gateway, Any]]:
    """A gateway before a scripted Bedrock, and a client of it."""
    with ScriptedUpstream(*answers) as upstream:
        row = f'[[providers]]\nname = "bedrock"\nbase_url = "{upstream.base_url}"\n{settings}' + ONE_ATTEMPT
        (folder / "headgate.toml").write_text(row)
        made = Gateway(folder, "--config", "headgate.toml", "--cap", "5/day", **environment)
        with openai.OpenAI(base_url=made.base, api_key=made.key, max_retries=0) as sdk:
            yield upstream, made, sdk
        assert made.command("ledger", "check").returncode == 0
        code, _, err = made.stop()
        assert (code, complaints(err)) == (0, [])


def text_of(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_a_signed_tool_loop_whole_and_streamed(tmp_path: Path) -> None:
    """The keys stand in AWS's own files: botocore finds them while the gateway serves."""
    (tmp_path / "credentials").write_text(
        "[work]\naws_access_key_id = AKID1\naws_secret_access_key = s/1+\naws_session_token = t1==\n"
    )
    answers = [
        whole(THOUGHT, TEXT, TOOL, BARE, stop="tool_use", usage=wire.CACHED),
        streamed(THOUGHT, TOOL, BARE, stop="tool_use", usage=wire.CACHED),
        streamed(TEXT),
    ]
    settings = 'profile = "work"\nlocation = "eu-central-1"\n'
    own = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"), "AWS_EC2_METADATA_DISABLED": "true"}
    with serving(tmp_path, settings, *answers, **own) as (upstream, made, sdk):
        create = sdk.with_options(max_retries=5).chat.completions.create  # the keys may not be there yet
        first = create(model=MODEL, messages=ASK, tools=TOOLS, reasoning_effort="low")
        message = first.choices[0].message
        assert (first.choices[0].finish_reason, first.model) == ("tool_calls", MODEL)
        assert [json.loads(call.function.arguments) for call in message.tool_calls] == [{"city": "Paris"}, {}]
        assert (first.usage.prompt_tokens, first.usage.prompt_tokens_details.cached_tokens) == (140, 80)
        with sdk.chat.completions.stream(model=MODEL, messages=ASK, tools=TOOLS) as stream:
            final = stream.get_final_completion().choices[0].message
        assert [call.function.arguments for call in final.tool_calls] == ['{"city":"Paris"}', "{}"]
        chunks = create(model=MODEL, messages=loop_of(message), tools=TOOLS, stream=True)
        assert text_of(chunks) == TEXT["text"]
        assert spent(made) == 2 * CACHED + COST
        asked = upstream.requests
        keys = Credentials("AKID1", "s/1+", "t1==")
        assert all(is_signed(each, upstream.port, keys) for each in asked)

    assert [each.path for each in asked] == [f"{PATH}converse", *[f"{PATH}converse-stream"] * 2]
    assert {each.get("x-amz-security-token") for each in asked} == {"t1=="}
    assert asked[0].json()["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 2048
    _, said, results = asked[2].json()["messages"]
    signed = {"text": "Which city?", "signature": "EqoB=="}
    assert said["content"][0] == {"reasoningContent": {"reasoningText": signed}}
    assert [block["toolResult"]["toolUseId"] for block in results["content"]] == ["tooluse_1", "tooluse_2"]


ROUTE = (
    'api_key = "ABSK1"\n[[models]]\nname = "claude"\ntargets = ['
    f'{{ provider = "bedrock", model = "{MODEL}", weight = 2 }}, '
    '{ provider = "bedrock", model = "amazon.nova-lite-v1:0" }]\n'
)
REFUSALS = [
    (429, "ThrottlingException", "Too many requests", openai.RateLimitError),
    (400, "ValidationException", "Input is too long for requested model.", openai.BadRequestError),
    (403, "AccessDeniedException", "You don't have access to the model with", openai.InternalServerError),
]


def test_a_key_errors_fallback_and_embeddings(tmp_path: Path) -> None:
    answers = [
        http_answer(wire.exception("modelStreamErrorException", "The model failed."), headers=EVENTS),
        streamed(TEXT),  # of the fallback, for nothing was shown yet
        http_answer(wire.exception("throttlingException", "Too many tokens, please wait."), headers=EVENTS),
        *(refusal(*row[:3]) for row in REFUSALS),
        json_answer({"embedding": [0.25, -1.0], "inputTextTokenCount": 8}),
    ]
    with serving(tmp_path, ROUTE, *answers) as (upstream, made, sdk):
        create = sdk.chat.completions.create
        assert text_of(create(model="claude", messages=ASK, stream=True)) == TEXT["text"]
        with pytest.raises(openai.RateLimitError, match="Too many tokens"):
            create(model=MODEL, messages=ASK, stream=True)
        for *_, error in REFUSALS:
            with pytest.raises(error):
                create(model=MODEL, messages=ASK)
        image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
        with pytest.raises(openai.BadRequestError) as refused:
            create(model=MODEL, messages=[{"role": "user", "content": [image]}])
        assert refused.value.param == "messages[0].content[0].image_url.url"
        got = sdk.embeddings.create(model="amazon.titan-embed-text-v2:0", input="a")
        assert (got.data[0].embedding, got.usage.prompt_tokens) == ([0.25, -1.0], 8)
        assert spent(made) == 20 * 60 + 15 * 240 + 8 * 20  # the fallback at its own price

    asked = upstream.requests
    assert {each.get("authorization") for each in asked} == {"Bearer ABSK1"}
    assert asked[1].path == "/v1/model/amazon.nova-lite-v1%3A0/converse-stream"
    assert asked[-1].path == "/v1/model/amazon.titan-embed-text-v2%3A0/invoke"
