"""Gemini's answers as events: a whole answer is read like the one chunk of a stream.

A stream has no terminator, and a reason to stop may come before, with or after the last part, or with every
chunk: the last one counts, at the end of the body. Whether functions were called decides between OpenAI's
`stop` and `tool_calls`, wherever the calls stood. The count comes with every chunk and is of all so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import UpstreamDenied, UpstreamFailed, UpstreamInterrupted, UpstreamRefused
from headgate.providers.chat import wants_one_call
from headgate.providers.events import (
    Sealed,
    Stopped,
    TextPiece,
    ThoughtPiece,
    ToolPiece,
    ToolStart,
    call_id,
)
from headgate.providers.gemini.contents import SIGNED
from headgate.providers.gemini.errors import reported
from headgate.providers.gemini.usage import read_usage
from headgate.providers.sources import DataStream, KeptBody, not_json
from headgate.wire.answers import NOT_JSON

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from headgate.errors import UpstreamError
    from headgate.providers.events import Event, FinishReason
    from headgate.values import Call

# Any other reason, known or not, means that the answer is not whole although no limit was reached.
# `FUNCTION_CALL` is not Google's own: servers that stand in for it say so.
_REASONS: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "FUNCTION_CALL": "tool_calls",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
}
_BROKEN: Mapping[str, str] = {
    "MALFORMED_FUNCTION_CALL": "The model wrote a function call that cannot be read. Try again.",
    "UNEXPECTED_TOOL_CALL": "The model called a function that it was not offered. Try again.",
    "TOO_MANY_TOOL_CALLS": "The model called too many functions. Try again.",
    "MALFORMED_RESPONSE": "The model wrote an answer that cannot be read. Try again.",
}
_NOWHERE = "The provider sent a part of an answer that has no place in a chat: {}."


class _FunctionCall(msgspec.Struct, gc=False):
    name: str = ""
    id: str | None = None
    args: dict[str, Any] | None = None


class _Part(msgspec.Struct, gc=False, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _FunctionCall | None = None
    inline_data: Any = None
    file_data: Any = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Token(msgspec.Struct, gc=False, rename="camel"):
    token: str = ""
    log_probability: float | None = None


class _Tokens(msgspec.Struct, gc=False):
    candidates: list[_Token] = []


class _Logprobs(msgspec.Struct, gc=False, rename="camel"):
    chosen_candidates: list[_Token] = []
    top_candidates: list[_Tokens] = []


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int | None = None
    logprobs_result: _Logprobs | None = None


class _Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode
_encode = msgspec.json.encode


class _Answer:
    """What an answer has said so far, as far as what follows depends on it."""

    __slots__ = ("_call", "_calls", "_reasons", "_single")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._reasons: dict[int, str] = {}  # of each choice, empty while it goes on
        self._calls: dict[int, int] = {}  # how many functions each has called
        self._single = wants_one_call(call)

    def read(self, data: bytes | msgspec.Raw) -> Iterator[Event]:
        """Yield what a chunk says.

        Raises:
            UpstreamError: it is an error, or says that the answer is broken.
            UpstreamInterrupted: it is not the API's JSON.
        """
        try:
            chunk = _decode(data)
        except NOT_JSON as fault:
            raise not_json(fault) from fault
        if chunk.error is not None:
            raise reported(chunk.error)
        if chunk.usage_metadata is not None:
            yield from read_usage(chunk.usage_metadata)
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            for choice in range(self._call.n):
                self._reasons[choice] = chunk.prompt_feedback.block_reason
        for candidate in chunk.candidates or ():
            yield from self._candidate(candidate)

    def end(self) -> Iterator[Event]:
        """Yield how each choice has stopped.

        Raises:
            UpstreamInterrupted: one has not.
        """
        for choice, reason in sorted(self._reasons.items()):
            if not reason:
                raise UpstreamInterrupted("The provider ended its answer before it was complete.")
            yield Stopped(_REASONS.get(reason, "content_filter"), choice)

    def _candidate(self, candidate: _Candidate) -> Iterator[Event]:
        choice, reason = candidate.index or 0, candidate.finish_reason
        self._reasons.setdefault(choice, "")
        logprobs = _logprobs(candidate.logprobs_result)
        for part in (candidate.content.parts if candidate.content is not None else None) or ():
            if part.function_call is not None:
                yield from self._function(part, part.function_call, choice)
            elif part.inline_data is not None or part.file_data is not None:
                raise UpstreamInterrupted(_NOWHERE.format("an image, a sound or a file"))
            elif part.thought:
                yield ThoughtPiece(part.text or "", choice)
            elif part.text:
                yield TextPiece(part.text, choice, logprobs)
                logprobs = ()
            if part.thought_signature and part.function_call is None:
                block = {"type": SIGNED, "signature": part.thought_signature}
                yield Sealed(block if part.text else {**block, "empty": True}, choice)
        if reason:
            self._reasons[choice] = reason
            broken = _broken(reason, candidate.finish_message)
            if broken is not None:
                raise broken

    def _function(self, part: _Part, called: _FunctionCall, choice: int) -> Iterator[Event]:
        key = self._calls.get(choice, 0)
        if key and self._single:
            return
        self._calls[choice] = key + 1
        signature = part.thought_signature
        extra = {"google": {"thought_signature": signature}} if signature else {}
        yield ToolStart(key, called.id or call_id(self._call, choice, key), called.name, choice, extra)
        yield ToolPiece(key, _encode(called.args or {}).decode(), choice)


def _broken(reason: str, said: str | None) -> UpstreamError | None:
    """Return the error that a reason stands for, or None where the answer is good as far as it goes."""
    if reason in _BROKEN:
        return UpstreamFailed(_BROKEN[reason] + (f" ({said})" if said else ""), upstream_status=502)
    if reason == "MISSING_THOUGHT_SIGNATURE":
        return UpstreamRefused(
            said or "A tool call came back without its `extra_content`, where the model's signature was.",
            upstream_status=400,
            param="messages",
        )
    if reason == "PUP_LIMITED_DISABLED":
        return UpstreamDenied(
            "The provider has limited the gateway's own account. Whoever runs this gateway must see to it."
        )
    return None


def _logprobs(result: _Logprobs | None) -> tuple[Mapping[str, Any], ...]:
    if result is None:
        return ()
    tops = [step.candidates for step in result.top_candidates]
    tops += [[]] * (len(result.chosen_candidates) - len(tops))
    return tuple(
        {**_token(chosen), "top_logprobs": [_token(other) for other in top]}
        for chosen, top in zip(result.chosen_candidates, tops, strict=False)
    )


def _token(token: _Token) -> dict[str, Any]:
    logprob = token.log_probability if token.log_probability is not None else -9999.0
    return {"token": token.token, "logprob": logprob, "bytes": list(token.token.encode())}


class WholeSource(KeptBody):
    """A whole answer, or the array of chunks that a stream is without `alt=sse`. Implements `Source`."""

    __slots__ = ("_answer",)

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._answer = _Answer(call)

    def finish(self) -> Iterable[Event]:
        """Yield what the answer says."""
        body = self._body.whole()
        for chunk in _array(body) if body.startswith(b"[") else (body,):
            yield from self._answer.read(chunk)
        yield from self._answer.end()
        self.done = True


def _array(body: bytes) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(body, type=list[msgspec.Raw])
    except NOT_JSON as fault:
        raise not_json(fault) from fault


class StreamSource(DataStream):
    """A stream of an answer. Implements `Source`: it is done when its body ends."""

    __slots__ = ("_answer",)

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._answer = _Answer(call)

    def finish(self) -> Iterable[Event]:
        """Yield what a last frame says that no blank line ended, and how all has stopped."""
        yield from self._read(self.rest())
        yield from self._answer.end()
        self.done = True

    def _data(self, data: bytes) -> Iterator[Event]:
        return self._answer.read(data)
