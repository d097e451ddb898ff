"""What every codec's tests ask and read with."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.http.parse import parse
from headgate.providers.codec import Codec
from headgate.values import Call, Host, Model, Prices, Target, Usage

HELLO = [{"role": "user", "content": "Hello"}]
ID = bytes.fromhex("0199c5f4a1b2") + bytes(10)  # made on 2025-10-08


def chat(stream: bool = False, **members: Any) -> Call:
    """A call of chat, as the edge makes it."""
    made = Call(ID, "chat", 0)
    body = {"model": "m", "messages": HELLO, **({"stream": True} if stream else {}), **members}
    parse(msgspec.json.encode(body), made)
    return made


def target(kind: str, model: str = "m", *, parameters: Any = "", **facts: Any) -> Target:
    host = Host(name="h", kind=kind, base_url="http://h/v1")
    facts = {"max_output": 1000, "context_window": 100_000} | facts
    return Target(
        host=host,
        model=Model(name=model, **facts),
        prices=Prices(),
        base_path="/v1",
        parameters=parameters,
    )


def notes(call: Call) -> list[tuple[str, str]]:
    return [(note.name.removeprefix("x-headgate-"), note.value) for note in call.notes]


def sent(codec: Codec, call: Call, to: Target) -> Any:
    return msgspec.json.decode(codec.encode(call, to).body)


def read(codec: Codec, call: Call, to: Target, pieces: list[bytes]) -> tuple[bytes, Usage | None]:
    """What the caller gets of an answer that comes in pieces, and the provider's count."""
    reader = codec.reader(call, to)
    out = b"".join([reader.feed(piece) for piece in pieces])
    out += reader.finish()
    usage = reader.usage()
    return out + reader.end(usage or Usage(1, 1)), usage


def chunks(stream: bytes) -> list[dict[str, Any]]:
    """The chunks of a stream that ends as OpenAI's do."""
    frames = stream.decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [msgspec.json.decode(frame.removeprefix("data: ")) for frame in frames[:-2]]


def put_together(stream: bytes) -> dict[str, Any]:
    """The message of a stream's first choice, as an SDK puts its deltas together."""
    whole: dict[str, Any] = {"finish_reason": None}
    for chunk in chunks(stream):
        for choice in chunk["choices"]:
            if choice["index"]:
                continue
            for name, value in choice["delta"].items():
                _add(whole, name, value)
            whole["finish_reason"] = choice["finish_reason"] or whole["finish_reason"]
    return whole


def _add(whole: dict[str, Any], name: str, value: Any) -> None:
    if isinstance(value, str) and whole.get(name) and name != "role":
        whole[name] += value
    elif name == "tool_calls":
        (piece,) = value
        calls = whole.setdefault(name, [])
        number = piece.pop("index")
        if number == len(calls):
            calls.append(piece)
        else:
            assert piece.keys() == {"function"}
            calls[number]["function"]["arguments"] += piece["function"]["arguments"]
    elif isinstance(value, list):
        rows = [{key: row[key] for key in row if key != "index"} for row in value]
        whole[name] = whole.get(name, []) + rows
    elif not whole.get(name):
        whole[name] = value


def message(body: bytes) -> dict[str, Any]:
    """The message of a body's first choice, in the form of `put_together`."""
    choice = msgspec.json.decode(body)["choices"][0]
    said = {name: value for name, value in choice["message"].items() if name != "annotations" or value}
    return said | {"finish_reason": choice["finish_reason"]}
