"""What the gateway's own codec makes of the simulator: the same text, the same count, its own errors."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.simulator.sim_upstream import StandingClock, target

from headgate.errors import UpstreamError
from headgate.money.tokens import Tokenizers
from headgate.ports import Head
from headgate.providers.openai import OpenAICodec
from headgate.transport.simulator import Simulator
from headgate.values import Call, Operation, Target, Usage

pytestmark = pytest.mark.anyio


def call_of(operation: Operation, members: dict[str, Any], sim: str = "") -> Call:
    call = Call(b"0" * 16, operation, 0)
    call.model = members["model"]
    call.stream = bool(members.get("stream"))
    call.sim = sim
    call.members = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()}
    return call


async def serve(
    tokenizers: Tokenizers, operation: Operation, members: dict[str, Any], sim: str = ""
) -> tuple[bytes, Usage | None, str]:
    call, codec = call_of(operation, members, sim), OpenAICodec(operation)
    where: Target = target(members["model"])
    exchange = await Simulator(StandingClock(), tokenizers).acquire(where)
    exchange.send(codec.encode(call, where))
    head: Head = await exchange.head()
    if head.status >= 300:
        raise codec.error(head, await exchange.read())
    reader = codec.reader(call, where)
    out = b""
    while data := await exchange.read():
        for at in range(len(data)):
            out += reader.feed(data[at : at + 1])
    out += reader.finish()
    out += reader.end(reader.usage() or Usage())
    return out, reader.usage(), reader.text()


def chat(text: str, **members: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **members}


@pytest.mark.parametrize("prompt", ["say pong", "从1数到5", "What is the sea?"])
async def test_both_forms_give_the_same_text_and_usage(tokenizers: Tokenizers, prompt: str) -> None:
    whole, usage, text = await serve(tokenizers, "chat", chat(prompt))
    stream, counted, said = await serve(tokenizers, "chat", chat(prompt, stream=True))
    assert text == said
    assert usage == counted
    assert usage is not None
    assert usage.output_tokens > 0
    assert stream.endswith(b"data: [DONE]\n\n")
    assert b'"usage"' not in stream  # nobody asked for it
    assert b'"usage":{' in whole


async def test_the_other_endpoints_are_counted_too(tokenizers: Tokenizers) -> None:
    _, usage, _ = await serve(
        tokenizers, "embeddings", {"model": "text-embedding-3-small", "input": ["a", "b"]}
    )
    assert usage == Usage(2, 0)
    asked = {"model": "gpt-3.5-turbo-instruct", "prompt": "say pong"}
    _, usage, _ = await serve(tokenizers, "completions", asked)
    _, streamed, _ = await serve(tokenizers, "completions", asked | {"stream": True})
    assert usage == streamed == Usage(2, 1)


async def test_directives_of_a_call_reach_the_simulator(tokenizers: Tokenizers) -> None:
    _, usage, _ = await serve(tokenizers, "chat", chat("hello"), sim="tokens=77; reasoning=5; cached=3")
    assert usage is not None
    assert (usage.output_tokens, usage.reasoning_tokens, usage.cached_tokens) == (82, 5, 3)


@pytest.mark.parametrize(
    "fault", ["500", "429", "401", "502", "302", "error-first", "garbage", "html", "no-done", "cut"]
)
async def test_a_fault_becomes_an_error_of_the_upstream(tokenizers: Tokenizers, fault: str) -> None:
    with pytest.raises(UpstreamError):
        await serve(tokenizers, "chat", chat("say a b c d e", stream=True), sim=f"fault={fault}")


@pytest.mark.parametrize("fault", ["split", "crlf", "done-twice"])
async def test_an_awkward_body_is_read_all_the_same(tokenizers: Tokenizers, fault: str) -> None:
    _, usage, text = await serve(
        tokenizers, "chat", chat("说“你好，世界🎉”", stream=True), sim=f"fault={fault}"
    )
    assert text == "你好，世界🎉"
    assert usage is not None


@pytest.mark.parametrize("fault", ["nousage", "usage-zero", "usage-negative", "usage-falling"])
async def test_a_count_that_cannot_be_true_is_not_believed(tokenizers: Tokenizers, fault: str) -> None:
    _, usage, _ = await serve(tokenizers, "chat", chat("say a b c", stream=True), sim=f"fault={fault}")
    assert usage is None
