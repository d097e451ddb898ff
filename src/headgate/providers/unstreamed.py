"""A whole answer that came in place of a stream, as the chunks that say the same.

Some servers of a compatible API take `stream: true` and answer with one JSON body. Each member of its
messages becomes a delta of its own, in the order of a stream: the role, thoughts and what else the host says,
the text, a refusal, calls of tools; then the finish, and the count in a chunk without a choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.providers.edits import members_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.values import Operation

_encode = msgspec.json.encode
_TEXTS: Final = ("content", "refusal")
_LAST: Final = ("role", *_TEXTS, "function_call", "tool_calls")  # of a message, after its other members
_EMPTY: Final[tuple[object, ...]] = (None, "", [], {})


def chunks_of(body: bytes, operation: Operation) -> bytes:
    """Return the frames of a stream that says what an answer says, with its `[DONE]`.

    Args:
        body: an answer of chat or completions; its choices are objects.
        operation: which of both.
    """
    alike: dict[str, Any] = dict(members_of(msgspec.json.format(body, indent=-1)))  # a frame is one line
    choices = msgspec.json.decode(alike.pop("choices"))
    usage = alike.pop("usage", None)
    chat = operation == "chat"
    alike["object"] = "chat.completion.chunk" if chat else "text_completion"
    pieces_of = _chat_pieces if chat else _text_pieces
    chunks = [
        {**alike, "choices": [{"index": at, **piece}], "usage": None}
        for at, choice in enumerate(choices)
        for piece in pieces_of(choice)
    ]
    if usage is not None:
        chunks.append({**alike, "choices": [], "usage": usage})
    return b"".join([*(b"data: %b\n\n" % _encode(chunk) for chunk in chunks), b"data: [DONE]\n\n"])


def _chat_pieces(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the choices of chunks that say a choice; what it has besides is in the last."""
    message = choice.pop("message", None) or {}
    number, logprobs, reason = _taken(choice)
    for delta in _deltas(message):
        said = None
        if "role" not in delta and not delta.keys().isdisjoint(_TEXTS):
            said, logprobs = logprobs, None
        yield {**number, "delta": delta, "logprobs": said, "finish_reason": None}
    yield {**choice, **number, "delta": {}, "logprobs": logprobs, "finish_reason": reason}


def _deltas(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    content = None if message.get("content") is None else ""
    yield {"role": message.get("role") or "assistant", "content": content, "refusal": None}
    for name in [*(name for name in message if name not in _LAST), *_LAST[1:-1]]:
        value = message.get(name)
        if value not in _EMPTY:
            yield {name: value}
    for at, call in enumerate(message.get("tool_calls") or ()):
        yield {"tool_calls": [{**call, "index": at}]}


def _text_pieces(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    text = choice.pop("text", None) or ""
    number, logprobs, reason = _taken(choice)
    yield {**number, "text": text, "logprobs": logprobs, "finish_reason": None}
    yield {**choice, **number, "text": "", "logprobs": None, "finish_reason": reason}


def _taken(choice: dict[str, Any]) -> tuple[dict[str, int], Any, Any]:
    """Take out of a choice its number, where it has one, its logprobs and why it has ended."""
    index = choice.pop("index", None)
    number = {} if index is None else {"index": index}
    return number, choice.pop("logprobs", None), choice.pop("finish_reason", None)
