"""Chat completions on the wire: one JSON body, or a stream of chunks.

The grammar is OpenAI's as recorded: a first chunk with the role, deltas, an empty delta with the
finish reason, the usage chunk when asked for (every other chunk then says `"usage":null`), `[DONE]`.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.transport.simulator.answer import say, think
from headgate.transport.simulator.asked import ChatAsked
from headgate.transport.simulator.logprobs import chat_logprobs
from headgate.transport.simulator.reply import DONE, STREAM_TYPE, Reply, json_reply, letters
from headgate.transport.simulator.usage import chat_usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.transport.simulator.answer import Said
    from headgate.transport.simulator.counting import Cut, ModelTokens
    from headgate.transport.simulator.reply import Stamp
    from headgate.transport.simulator.tools import ToolCall
    from headgate.transport.simulator.wishes import Wish

FINGERPRINT = "fp_headgate_sim"
_encode = msgspec.json.encode
_PADDING = b"Qf3Zk7Tn1Wx9Rb5Y"
_EMPTY = b"{}"


async def chat_reply(members: dict[str, Any], wish: Wish, tokens: ModelTokens, stamp: Stamp) -> Reply:
    """Return the answer to a decoded body of `/chat/completions`.

    Raises:
        msgspec.ValidationError: a member is not of its type.
    """
    asked = msgspec.convert(members, ChatAsked)
    given = await tokens.of_request("chat", members)
    limit = asked.limit
    thought = wish.reasoning if limit is None else min(wish.reasoning, limit)
    room = None if limit is None else limit - thought
    said = await say(think(asked, wish), tokens, room, split=bool(asked.stream or asked.logprobs))
    count = asked.n or 1
    usage = chat_usage(given, said.tokens * count, thought, wish)
    if asked.stream:
        return Reply(200, STREAM_TYPE, _frames(asked, said, stamp, usage), streamed=True)
    return json_reply(_body(asked, said, stamp, usage))


def _body(asked: ChatAsked, said: Said, stamp: Stamp, usage: dict[str, Any] | None) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "message": _message(asked, said, stamp, index),
            "logprobs": _logprobs(asked, said, said.text.pieces),
            "finish_reason": said.finish,
        }
        for index in range(asked.n or 1)
    ]
    body = {
        "id": stamp.id("chatcmpl-"),
        "object": "chat.completion",
        "created": stamp.created,
        "model": stamp.model,
        "choices": choices,
        "usage": usage,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    if usage is None:
        del body["usage"]
    return body


def _message(asked: ChatAsked, said: Said, stamp: Stamp, index: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if said.calls and not asked.tools:
        call, part = said.calls[0]
        message["function_call"] = {"name": call.name, "arguments": part.text}
    elif said.calls:
        message["tool_calls"] = [
            _call(*pair, _call_id(stamp, index, at)) for at, pair in enumerate(said.calls)
        ]
    elif not said.refusal:
        message["content"] = said.text.text
    message["refusal"] = said.text.text if said.refusal else None
    message["annotations"] = []
    return message


def _call(call: ToolCall, part: Cut, call_id: str) -> dict[str, Any]:
    if call.custom:
        return {"id": call_id, "type": "custom", "custom": {"name": call.name, "input": part.text}}
    return {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": part.text}}


def _call_id(stamp: Stamp, index: int, at: int) -> str:
    return "call_" + letters(stamp.seed + b"/%d/%d" % (index, at), 24)


def _logprobs(asked: ChatAsked, said: Said, pieces: tuple[str, ...]) -> dict[str, Any] | None:
    if not asked.logprobs or said.calls:
        return None
    rows = chat_logprobs(pieces, asked.top_logprobs or 0)
    return {"content": None, "refusal": rows} if said.refusal else {"content": rows, "refusal": None}


def _frames(asked: ChatAsked, said: Said, stamp: Stamp, usage: dict[str, Any] | None) -> Iterator[bytes]:
    options = asked.stream_options
    with_usage = bool(options and options.include_usage)
    padded = not (options and options.include_obfuscation is False)
    head = _encode(
        {
            "id": stamp.id("chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": stamp.created,
            "model": stamp.model,
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
        }
    )
    head = b"data: " + head[:-1] + b',"choices":['
    no_usage = b'],"usage":null' if with_usage else b"]"
    for choice, weight in _choices(asked, said, stamp):
        yield head + choice + no_usage + _tail(weight, padded=padded)
    if with_usage and usage is not None:
        yield head + b'],"usage":' + _encode(usage) + _tail(0, padded=padded)
    yield DONE


def _tail(weight: int, *, padded: bool) -> bytes:
    """Return a chunk's end, with padding that evens out its length as OpenAI's `obfuscation` does."""
    return b',"obfuscation":"%b"}\n\n' % _PADDING[weight % 16 :] if padded else b"}\n\n"


def _choices(asked: ChatAsked, said: Said, stamp: Stamp) -> Iterator[tuple[bytes, int]]:
    """Yield the choice of each chunk, those of `n` answers interleaved, with the length of its delta."""
    indexes = range(asked.n or 1)
    streams = [_deltas(asked, said, stamp, index) for index in indexes]
    for row in zip_longest(*streams):  # all have the same length
        for index, (delta, logprobs, finish) in zip(indexes, row, strict=True):
            yield (
                b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}'
                % (index, delta, logprobs, finish),
                len(delta),
            )


def _deltas(asked: ChatAsked, said: Said, stamp: Stamp, index: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield delta, log probabilities and finish reason of one choice's chunks."""
    null = b"null"
    if said.calls:
        yield b'{"role":"assistant","content":null,"refusal":null}', null, null
        for delta in _call_deltas(asked, said, stamp, index):
            yield _encode(delta), null, null
    else:
        content = b"null" if said.refusal else b'""'
        yield b'{"role":"assistant","content":%b,"refusal":null}' % content, null, null
        name = b'{"refusal":' if said.refusal else b'{"content":'
        for piece in said.text.pieces:
            logprobs = _encode(_logprobs(asked, said, (piece,))) if asked.logprobs else null
            yield name + _encode(piece) + b"}", logprobs, null
    yield _EMPTY, null, b'"%b"' % said.finish.encode()


def _call_deltas(asked: ChatAsked, said: Said, stamp: Stamp, index: int) -> Iterator[dict[str, Any]]:
    if not asked.tools:
        call, part = said.calls[0]
        yield {"function_call": {"name": call.name, "arguments": ""}}
        for piece in part.pieces:
            yield {"function_call": {"arguments": piece}}
        return
    for at, (call, part) in enumerate(said.calls):
        kind, text = ("custom", "input") if call.custom else ("function", "arguments")
        first = {
            "index": at,
            "id": _call_id(stamp, index, at),
            "type": kind,
            kind: {"name": call.name, text: ""},
        }
        yield {"tool_calls": [first]}
        for piece in part.pieces:
            yield {"tool_calls": [{"index": at, kind: {text: piece}}]}
