"""The simulator as an upstream under test, and what its bytes say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from headgate.money.tokens import Tokenizers
from headgate.ports import Request
from headgate.transport.simulator import Simulator
from headgate.values import Deadlines, Host, Model, Target

NOW = 1_790_000_000
HOST = Host(name="simulator", base_url="http://simulator.invalid/v1", extras="refuse", deviates=False)
_ENCODINGS = {"gpt-4": "cl100k_base", "gpt-3.5-turbo": "cl100k_base", "gpt-3.5-turbo-instruct": "cl100k_base"}


class StandingClock:
    def wall(self) -> int:
        return NOW * 1_000_000

    def monotonic(self) -> int:
        return 0


def target(model: str, **deadlines: float) -> Target:
    encoding = "cl100k_base" if model.startswith("text-embedding") else _ENCODINGS.get(model, "o200k_base")
    every = ("chat", "completions", "embeddings")
    known = Model(name=model, tokenizer=encoding, exact=True, operations=every)
    return Target(host=HOST, model=known, prices=None, deadlines=Deadlines(**deadlines), simulated=True)


def request(path: str, body: dict[str, Any], wish: str = "", request_id: str = "req_1") -> Request:
    headers = (("x-headgate-sim", wish),) if wish else ()
    return Request("POST", "/v1" + path, headers, json.dumps(body).encode(), request_id)


@dataclass
class Seen:
    status: int
    headers: dict[bytes, bytes]
    reads: list[bytes]

    @property
    def body(self) -> bytes:
        return b"".join(self.reads)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[str]:
        """The data of each event; fails where the framing is not OpenAI's."""
        text = self.body.decode()
        assert text.endswith("\n\n")
        frames = text[:-2].split("\n\n")
        assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
        return [frame[6:] for frame in frames]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        events = self.events
        assert events[-1] == "[DONE]"
        assert "[DONE]" not in events[:-1]
        return [json.loads(event) for event in events[:-1]]


class Upstream:
    """Asks one simulator; every test shares its tokenizers, which take half a second to load."""

    def __init__(self, tokenizers: Tokenizers) -> None:
        self.tokenizers = tokenizers
        self.simulator = Simulator(StandingClock(), tokenizers)

    async def ask(
        self, path: str, body: dict[str, Any], wish: str = "", request_id: str = "req_1", **deadlines: float
    ) -> Seen:
        exchange = await self.simulator.acquire(target(body["model"], **deadlines))
        exchange.send(request(path, body, wish, request_id))
        head = await exchange.head()
        reads = []
        while data := await exchange.read():
            reads.append(data)
        assert await exchange.read() == b""
        exchange.release()
        return Seen(head.status, dict(head.headers), reads)

    async def chat(self, text: str, wish: str = "", **members: Any) -> Seen:
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **members}
        return await self.ask("/chat/completions", body, wish)

    async def say(self, text: str, **members: Any) -> str:
        answer = (await self.chat(text, **members)).json["choices"][0]["message"]["content"]
        assert isinstance(answer, str)
        return answer

    async def calls(self, text: str, tools: list[dict[str, Any]], **members: Any) -> list[tuple[str, Any]]:
        seen = await self.chat(text, tools=tools, **members)
        message = seen.json["choices"][0]["message"]
        return [
            (c["function"]["name"], json.loads(c["function"]["arguments"]))
            for c in message.get("tool_calls", [])
        ]


def joined(chunks: list[dict[str, Any]], index: int = 0) -> dict[str, Any]:
    """Put one choice of a stream together as a client does."""
    message: dict[str, Any] = {"content": None, "refusal": None, "tool_calls": []}
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    for choice in choices:
        delta = choice["delta"]
        for name in ("content", "refusal"):
            if delta.get(name) is not None:
                message[name] = (message[name] or "") + delta[name]
        for part in delta.get("tool_calls", []):
            _add_call(message["tool_calls"], part)
    message["finish_reason"] = choices[-1]["finish_reason"]
    return message


def _add_call(calls: list[dict[str, Any]], part: dict[str, Any]) -> None:
    if "id" in part:
        calls.append({name: value for name, value in part.items() if name != "index"})
        return
    kind, text = ("custom", "input") if "custom" in part else ("function", "arguments")
    calls[part["index"]][kind][text] += part[kind][text]
