"""Text completions (the older endpoint) on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.transport.simulator.answer import Answer, think
from headgate.transport.simulator.asked import ChatAsked, CompletionAsked
from headgate.transport.simulator.chat import FINGERPRINT
from headgate.transport.simulator.logprobs import completion_logprobs
from headgate.transport.simulator.reply import DONE, STREAM_TYPE, Reply, json_reply
from headgate.transport.simulator.usage import completion_usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.transport.simulator.counting import Cut, ModelTokens
    from headgate.transport.simulator.reply import Stamp
    from headgate.transport.simulator.wishes import Wish

_encode = msgspec.json.encode
_NO_PROMPT = "<|endoftext|>"
_DEFAULT_LIMIT = 16  # OpenAI's own, of this endpoint only


async def completion_reply(members: dict[str, Any], wish: Wish, tokens: ModelTokens, stamp: Stamp) -> Reply:
    """Return the answer to a decoded body of `/completions`.

    Raises:
        msgspec.ValidationError: a member is not of its type.
        ValueError: a token id that does not exist.
    """
    asked = msgspec.convert(members, CompletionAsked)
    given = await tokens.of_request("completions", members)
    limit = asked.max_tokens if asked.max_tokens is not None else _DEFAULT_LIMIT
    split = bool(asked.stream) or asked.logprobs is not None
    answers: list[tuple[str, Answer, Cut]] = []
    for prompt in await tokens.texts_of(asked.prompt if asked.prompt is not None else _NO_PROMPT):
        chat = ChatAsked(asked.model, [{"role": "user", "content": prompt}], stop=asked.stop)
        answer = think(chat, wish)
        answers.append((prompt, answer, await tokens.cut(answer.text, limit, split=split)))
    made = sum(text.tokens for _, _, text in answers) * max(asked.n or 1, asked.best_of or 1)
    usage = completion_usage(given, made, wish)
    choices = [one for one in answers for _ in range(asked.n or 1)]
    if asked.stream:
        return Reply(200, STREAM_TYPE, _frames(asked, choices, stamp, usage), streamed=True)
    return json_reply(_body(asked, choices, stamp, usage))


def _stamp(stamp: Stamp) -> dict[str, Any]:
    return {
        "id": stamp.id("cmpl-"),
        "object": "text_completion",
        "created": stamp.created,
        "model": stamp.model,
    }


def _body(
    asked: CompletionAsked, choices: list[tuple[str, Answer, Cut]], stamp: Stamp, usage: dict[str, Any] | None
) -> dict[str, Any]:
    rows = []
    for index, (prompt, answer, text) in enumerate(choices):
        echoed = prompt if asked.echo else ""
        finish = "length" if text.cut else answer.finish
        logprobs = None
        if asked.logprobs is not None:
            pieces = ((echoed,) if echoed else ()) + text.pieces
            logprobs = completion_logprobs(pieces, asked.logprobs, 0)
        rows.append(
            {"text": echoed + text.text, "index": index, "logprobs": logprobs, "finish_reason": finish}
        )
    body = {**_stamp(stamp), "choices": rows, "usage": usage, "system_fingerprint": FINGERPRINT}
    if usage is None:
        del body["usage"]
    return body


def _frames(
    asked: CompletionAsked, choices: list[tuple[str, Answer, Cut]], stamp: Stamp, usage: dict[str, Any] | None
) -> Iterator[bytes]:
    with_usage = bool(asked.stream_options and asked.stream_options.include_usage)
    head = b"data: " + _encode({**_stamp(stamp), "system_fingerprint": FINGERPRINT})[:-1] + b',"choices":['
    tail = b'],"usage":null}\n\n' if with_usage else b"]}\n\n"
    for index, (prompt, answer, text) in enumerate(choices):
        offset = 0
        for piece in ((prompt,) if asked.echo and prompt else ()) + text.pieces:
            logprobs = None
            if asked.logprobs is not None:
                logprobs = completion_logprobs((piece,), asked.logprobs, offset)
            offset += len(piece)
            yield head + _choice(piece, index, logprobs, None) + tail
        yield head + _choice("", index, None, "length" if text.cut else answer.finish) + tail
    if with_usage and usage is not None:
        yield head + b'],"usage":' + _encode(usage) + b"}\n\n"
    yield DONE


def _choice(text: str, index: int, logprobs: dict[str, Any] | None, finish: str | None) -> bytes:
    return _encode({"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish})
