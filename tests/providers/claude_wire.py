"""Answers in Anthropic's form as bytes: the same message whole and streamed."""

from __future__ import annotations

import json
from typing import Any

START_USAGE = {
    "input_tokens": 20,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 1,
    "service_tier": "standard",
}
END_USAGE = {"input_tokens": 20, "output_tokens": 15}


def event(kind: str, **members: Any) -> bytes:
    data = json.dumps({"type": kind, **members}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}   \n\n".encode()  # with spaces at the end, as recorded


def message(
    *blocks: dict[str, Any], stop: str | None = "end_turn", usage: dict | None = None, **more: Any
) -> bytes:
    """A whole message."""
    return json.dumps(
        {
            "id": "msg_01",
            "type": "message",
            "role": "assistant",
            "model": "claude-opus-4-8",
            "content": list(blocks),
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": usage or START_USAGE | END_USAGE,
            **more,
        },
        ensure_ascii=False,
    ).encode()


def stream(
    *blocks: dict[str, Any],
    stop: str | None = "end_turn",
    usage: dict | None = None,
    start: dict | None = None,
    **more: Any,
) -> bytes:
    """The same as a stream, each text in three pieces."""
    head = json.loads(message(stop=None, usage=start or START_USAGE))
    out = [event("message_start", message=head), event("ping")]
    for index, block in enumerate(blocks):
        opened, deltas = _pieces(block)
        out.append(event("content_block_start", index=index, content_block=opened))
        out += [event("content_block_delta", index=index, delta=delta) for delta in deltas]
        out.append(event("content_block_stop", index=index))
    delta = {"stop_reason": stop, "stop_sequence": None, **more}
    out.append(event("message_delta", delta=delta, usage=usage or END_USAGE))
    out.append(event("message_stop"))
    return b"".join(out)


def _pieces(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    match block:
        case {"type": "text", "text": text}:
            cited = [{"type": "citations_delta", "citation": each} for each in block.get("citations") or ()]
            texts = [{"type": "text_delta", "text": piece} for piece in _thirds(text)]
            return {"type": "text", "text": ""}, [*texts, *cited]
        case {"type": "tool_use" | "server_tool_use", "input": dict(given)}:
            parts = ["", *_thirds(json.dumps(given, separators=(",", ":")))] if given else [""]
            return {**block, "input": {}}, [
                {"type": "input_json_delta", "partial_json": piece} for piece in parts
            ]
        case {"type": "thinking", "thinking": text, "signature": signature}:
            pieces = [{"type": "thinking_delta", "thinking": piece} for piece in _thirds(text)]
            pieces.append({"type": "signature_delta", "signature": signature})
            return {"type": "thinking", "thinking": "", "signature": ""}, pieces
        case _:
            return block, []


def _thirds(text: str) -> list[str]:
    size = len(text) // 3 or 1
    pieces = [text[:size], text[size : 2 * size], text[2 * size :]]
    return [piece for piece in pieces if piece]
