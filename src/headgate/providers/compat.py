"""What hosts that call themselves OpenAI-compatible do differently, put right.

DeepSeek puts usage into the last chunk with choices; OpenRouter sends comments, a usage chunk with a
choice and integer error codes; some add members of their own, named `x_...`; several leave out members that
OpenAI sends as null. A client of ours sees OpenAI's grammar from all of them.
"""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import UpstreamInterrupted
from headgate.providers.edits import usage_object
from headgate.values import Usage
from headgate.wire.answers import NOT_JSON

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from headgate.values import Call

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.encode
_ALIKE = ("id", "created", "system_fingerprint")


def _read(body: bytes) -> dict[str, Any]:
    try:
        return _decode(body)
    except NOT_JSON as fault:
        raise UpstreamInterrupted("The provider sent an answer that is not the API's JSON.") from fault


def named(
    answer: dict[str, Any], call: Call, kind: str, alike: MutableMapping[str, Any] | None = None
) -> None:
    """Fill the members that every answer has.

    Args:
        answer: or a chunk.
        call: whose answer it is.
        kind: its `object`.
        alike: what the chunks of a stream have in common: the first one's. Some hosts leave it out of others.
    """
    answer["model"] = call.model
    answer["object"] = kind
    if alike:
        answer.update(alike)
        return
    answer["id"] = answer.get("id") or f"chatcmpl-{call.request_id[4:]}"
    answer["created"] = answer.get("created") or int.from_bytes(call.id[:6]) // 1000
    answer.setdefault("system_fingerprint", None)
    if alike is not None:
        alike.update((name, answer[name]) for name in _ALIKE)


def normal_answer(body: bytes, call: Call) -> bytes:
    """Return a JSON answer with the members that OpenAI always sends."""
    answer = _read(body)
    if call.operation == "embeddings":
        return embeddings_answer(answer, call)
    named(answer, call, "chat.completion" if call.operation == "chat" else "text_completion")
    for index, choice in enumerate(answer["choices"]):
        choice.setdefault("index", index)
        choice.setdefault("logprobs", None)
        message = choice.get("message")
        if message is not None:
            message.setdefault("role", "assistant")
            message.setdefault("content", None)
            message.setdefault("refusal", None)
    _complete(answer.get("usage"))
    return _encode(answer)


def _complete(usage: Any) -> None:
    """Fill what a usage leaves out of its details: nothing of the kind was counted."""
    if isinstance(usage, dict):
        for name, counts in usage_object(Usage(), "chat").items():
            if usage.get(name) is None and isinstance(counts, dict):
                usage[name] = counts


def embeddings_answer(answer: dict[str, Any], call: Call) -> bytes:
    """Return an answer whose `data` are rows with an `embedding` as OpenAI writes it, packed where asked."""
    answer["object"] = "list"
    answer["model"] = call.model
    asked = call.members.get("encoding_format")
    packed = asked is not None and bytes(asked) == b'"base64"'
    for index, row in enumerate(answer["data"]):
        row.setdefault("object", "embedding")
        row.setdefault("index", index)
        vector = row.get("embedding")
        if packed and isinstance(vector, list):
            row["embedding"] = _packed(vector)
    return _encode(answer)


def _packed(vector: list[Any]) -> str:
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except (struct.error, OverflowError) as fault:
        raise UpstreamInterrupted("The provider sent a vector that is not made of numbers.") from fault


def normal_chunk(payload: bytes, call: Call, alike: MutableMapping[str, Any]) -> bytes:
    """Return a chunk in OpenAI's grammar: usage only in a chunk of its own, nulls present.

    Args:
        payload: the chunk, with a choice.
        call: whose answer it is.
        alike: what its stream's chunks have in common; the first of them fills it.
    """
    chunk = _read(payload)
    choices = chunk["choices"]
    named(chunk, call, "chat.completion.chunk" if call.operation == "chat" else "text_completion", alike)
    for name in [name for name in chunk if name == "usage" or name.startswith("x_")]:
        del chunk[name]
    for index, choice in enumerate(choices):
        choice.setdefault("index", index)
        choice.setdefault("logprobs", None)
        choice.setdefault("finish_reason", None)
        choice.setdefault(*(("delta", {}) if call.operation == "chat" else ("text", "")))
    if call.include_usage:
        chunk["usage"] = None
    return _encode(chunk)


def usage_chunk(usage: Usage, call: Call, alike: MutableMapping[str, Any] | None = None) -> bytes:
    """Return the usage chunk that OpenAI sends before `[DONE]` when asked."""
    chunk: dict[str, Any] = {}
    named(chunk, call, "chat.completion.chunk" if call.operation == "chat" else "text_completion", alike)
    chunk["choices"] = []
    chunk["usage"] = usage_object(usage, call.operation)
    return b"data: %b\n\n" % _encode(chunk)
