"""Answers in Bedrock's form as bytes: the same answer whole and as an event stream, padded as its servers do."""

from __future__ import annotations

import json
from binascii import crc32
from struct import pack
from typing import Any

USAGE = {"inputTokens": 20, "outputTokens": 15, "totalTokens": 35}
CACHED = {
    "inputTokens": 20,
    "outputTokens": 15,
    "totalTokens": 155,
    "cacheReadInputTokens": 80,
    "cacheWriteInputTokens": 40,
}


def packed(headers: dict[str, Any], payload: bytes) -> bytes:
    """One message of an event stream. Headers of text, bytes, bool or int."""
    rows = b"".join(bytes([len(name)]) + name.encode() + _value(value) for name, value in headers.items())
    prelude = pack(">II", 16 + len(rows) + len(payload), len(rows))
    message = prelude + pack(">I", crc32(prelude)) + rows + payload
    return message + pack(">I", crc32(message))


def _value(value: Any) -> bytes:
    match value:
        case bool():
            return b"\x00" if value else b"\x01"
        case int():
            return b"\x05" + pack(">q", value)
        case bytes():
            return b"\x06" + pack(">H", len(value)) + value
        case _:
            data = value.encode()
            return b"\x07" + pack(">H", len(data)) + data


def event(kind: str, **members: Any) -> bytes:
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    body = json.dumps({**members, "p": "abcdefghijkl"}, ensure_ascii=False, separators=(",", ":"))
    return packed(headers, body.encode())


def exception(kind: str, message: str, **members: Any) -> bytes:
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return packed(headers, json.dumps({"message": message, **members}).encode())


def text(said: str) -> dict[str, Any]:
    return {"text": said}


def use(name: str, call: str, given: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": call, "name": name, "input": given or {}, **more}}


def thought(said: str, signature: str = "EqoB==") -> dict[str, Any]:
    signed = {"signature": signature} if signature else {}
    return {"reasoningContent": {"reasoningText": {"text": said, **signed}}}


def redacted(data: str) -> dict[str, Any]:
    return {"reasoningContent": {"redactedContent": data}}


def body(*blocks: dict[str, Any], stop: str = "end_turn", usage: Any = None, **more: Any) -> bytes:
    """A whole answer."""
    said = {"role": "assistant", "content": list(blocks)}
    made = {"metrics": {"latencyMs": 551}, "output": {"message": said}, "stopReason": stop}
    return json.dumps({**made, "usage": usage or USAGE, **more}, ensure_ascii=False).encode()


def stream(*blocks: dict[str, Any], stop: str = "end_turn", usage: Any = None) -> bytes:
    """The same as a stream, each text in three pieces; only blocks of tools say how they start."""
    out = [event("messageStart", role="assistant")]
    for index, block in enumerate(blocks):
        for start, delta in _pieces(block):
            if start:
                out.append(event("contentBlockStart", contentBlockIndex=index, start=start))
            if delta:
                out.append(event("contentBlockDelta", contentBlockIndex=index, delta=delta))
        out.append(event("contentBlockStop", contentBlockIndex=index))
    out.append(event("messageStop", stopReason=stop))
    out.append(event("metadata", usage=usage or USAGE, metrics={"latencyMs": 551}))
    return b"".join(out)


def _pieces(block: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    match block:
        case {"text": said}:
            return [({}, {"text": piece}) for piece in _thirds(said)]
        case {"toolUse": {"input": given, **start}}:
            pieces = _thirds(json.dumps(given, separators=(",", ":"))) if given else []
            return [({"toolUse": start}, {}), *(({}, {"toolUse": {"input": piece}}) for piece in pieces)]
        case {"reasoningContent": {"reasoningText": {"text": said, **signed}}}:
            pieces = [({}, {"reasoningContent": {"text": piece}}) for piece in _thirds(said)]
            return [*pieces, *([({}, {"reasoningContent": signed})] if signed else [])]
        case {"citationsContent": {"content": parts, "citations": citations}}:
            said = [({}, {"text": piece}) for part in parts for piece in _thirds(part["text"])]
            return [*said, *(({}, {"citation": citation}) for citation in citations)]
        case _:
            return [({}, block)]


def _thirds(said: str) -> list[str]:
    size = len(said) // 3 or 1
    return [piece for piece in (said[:size], said[size : 2 * size], said[2 * size :]) if piece]
