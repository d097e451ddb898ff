"""Answers of Azure OpenAI as its servers spell them: filters' verdicts among OpenAI's members."""

from __future__ import annotations

import json
from typing import Any

SAFE = {"hate": {"filtered": False, "severity": "safe"}, "jailbreak": {"detected": False, "filtered": False}}
PROMPT = [{"prompt_index": 0, "content_filter_results": SAFE}]
USAGE = {
    "completion_tokens": 7,
    "completion_tokens_details": {"audio_tokens": 0, "reasoning_tokens": 2},
    "prompt_tokens": 19,
    "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 8},
    "total_tokens": 26,
}
COMMON = {
    "created": 1785610058,
    "id": "chatcmpl-E892Aoy89ODQ3TyvXXjI5UFYxqwFj",
    "model": "gpt-4o-2024-11-20",
    "system_fingerprint": "fp_b705f0c291",
}
NAMELESS = {"created": 0, "id": "", "model": "", "object": ""}
REFUSED = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management "
        "policy. Please modify your prompt and retry.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {
                "hate": {"filtered": False, "severity": "safe"},
                "jailbreak": {"filtered": True, "detected": True},
                "violence": {"filtered": True, "severity": "medium"},
            },
        },
    }
}


def body(said: dict[str, Any], finish: str = "stop", **more: Any) -> bytes:
    """A whole answer."""
    choice = {
        "content_filter_results": SAFE,
        "finish_reason": finish,
        "index": 0,
        "logprobs": None,
        "message": {"annotations": [], "refusal": None, "role": "assistant", **said},
    }
    made = {"choices": [choice], **COMMON, "object": "chat.completion", "prompt_filter_results": PROMPT}
    return json.dumps({**made, "usage": USAGE, **more}, ensure_ascii=False, separators=(",", ":")).encode()


def frame(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
    """One chunk of a stream; without a delta it is what a filter says beside the stream."""
    choice: dict[str, Any] = {"content_filter_results": SAFE, "finish_reason": finish, "index": 0}
    common: dict[str, Any] = {**COMMON, "object": "chat.completion.chunk", "obfuscation": "zRj"}
    if delta is None:
        choice["content_filter_offsets"] = {"check_offset": 44, "start_offset": 44, "end_offset": 198}
        common = NAMELESS
    else:
        choice |= {"delta": delta, "logprobs": None}
    return data({"choices": [choice], **common, "usage": None, **more})


def data(event: Any) -> bytes:
    return f"data: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


FIRST = data({"choices": [], **NAMELESS, "prompt_filter_results": PROMPT})
COUNT = data({"choices": [], **COMMON, "object": "chat.completion.chunk", "usage": USAGE})
DONE = b"data: [DONE]\n\n"


def stream(*deltas: dict[str, Any], finish: str = "stop", tail: bytes = b"") -> bytes:
    """A stream that says these deltas."""
    begun = frame({"content": "", "refusal": None, "role": "assistant"})
    said = [frame(delta) for delta in deltas]
    return b"".join([FIRST, begun, *said, frame({}, finish), tail, COUNT, DONE])
