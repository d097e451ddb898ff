"""Canned answers of an OpenAI-like provider, as bytes on the wire. See `tests/upstream.py`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.upstream import Received, Step

CREATED = 1_760_000_000
FINGERPRINT = "fp_scripted"
TOKENS = ("Hello", " there", ".")
SSE = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))


def http_head(status: int = 200, headers: Iterable[tuple[str, str]] = (), length: int | None = None) -> bytes:
    """The head of an answer; without a length it says `transfer-encoding: chunked`."""
    framing = ("transfer-encoding", "chunked") if length is None else ("content-length", str(length))
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{k}: {v}" for k, v in (*headers, framing))]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def http_answer(body: bytes, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    return http_head(status, headers, len(body)) + body


def chunk(data: bytes) -> bytes:
    """One HTTP chunk; of nothing: the end of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def json_answer(value: Any, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    body = json.dumps(value, ensure_ascii=False).encode()
    return http_answer(body, status, [("content-type", "application/json"), *headers])


def error_json(
    status: int,
    message: str = "scripted",
    *,
    code: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> bytes:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return json_answer({"error": error}, status, headers)


def usage_of(prompt: int, completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def chat_json(
    content: str = "Hello there.",
    *,
    model: str = "gpt-4o-mini",
    prompt_tokens: int = 19,
    completion_tokens: int = 3,
    usage: bool = True,
) -> bytes:
    """A whole chat completion as OpenAI sends it; `usage=False` leaves the count out."""
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
    value: dict[str, Any] = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
    }
    if usage:
        value["usage"] = usage_of(prompt_tokens, completion_tokens)
    return json_answer(value | {"service_tier": "default", "system_fingerprint": FINGERPRINT})


def chat_frames(
    tokens: Sequence[str] = TOKENS,
    *,
    model: str = "gpt-4o-mini",
    usage: bool = True,
    prompt_tokens: int = 19,
    reasoning_tokens: int = 0,
    done: bool = True,
) -> list[bytes]:
    """The SSE frames of a streamed chat completion, one piece of text per frame."""
    common = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    extra = {"usage": None} if usage else {}

    def frame(delta: dict[str, Any], reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        text = json.dumps(common | {"choices": [choice]} | extra, ensure_ascii=False)
        return b"data: " + text.encode() + b"\n\n"

    frames = [frame({"role": "assistant", "content": "", "refusal": None}, None)]
    frames += [frame({"content": token}, None) for token in tokens]
    frames.append(frame({}, "stop"))
    if usage:
        count = usage_of(prompt_tokens, len(tokens) + reasoning_tokens)
        count["completion_tokens_details"]["reasoning_tokens"] = reasoning_tokens
        last = common | {"choices": [], "usage": count}
        frames.append(b"data: " + json.dumps(last).encode() + b"\n\n")
    return [*frames, b"data: [DONE]\n\n"] if done else frames


def stream_steps(frames: Iterable[bytes] | None = None) -> list[Step]:
    """Head, one chunk per frame, end: insert events and faults where they are wanted."""
    frames = chat_frames() if frames is None else frames
    return [http_head(200, SSE), *(chunk(frame) for frame in frames), chunk(b"")]


def chat_stream(tokens: Sequence[str] = TOKENS, *, usage: bool = True, **more: Any) -> bytes:
    """A whole streamed chat completion in one piece; takes what `chat_frames` takes."""
    steps = stream_steps(chat_frames(tokens, usage=usage, **more))
    return b"".join(step for step in steps if isinstance(step, bytes))


def default_answer(request: Received) -> bytes:
    """What a well-behaved model says."""
    try:
        asked = request.json()
    except ValueError:
        return error_json(400, "not JSON")
    model = asked.get("model", "gpt-4o-mini")
    if not asked.get("stream"):
        return chat_json(model=model)
    options = asked.get("stream_options") or {}
    return chat_stream(usage=bool(options.get("include_usage")), model=model)
