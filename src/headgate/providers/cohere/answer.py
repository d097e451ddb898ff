"""Cohere's answers as events: a whole answer and a stream of it are read by the same steps.

A plan for the calls of tools is reasoning, as what a reasoning model thinks is. Citations have a place in
OpenAI's answers where they name a page; of others the caller hears who asks for `citation_options`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import UpstreamFailed, UpstreamTimeout
from headgate.ports import Head
from headgate.providers.chat import wants_one_call
from headgate.providers.cohere.errors import mistake
from headgate.providers.events import (
    Cited,
    Counted,
    Stopped,
    TextPiece,
    ThoughtPiece,
    ToolPiece,
    ToolStart,
    call_id,
)
from headgate.providers.sources import DataStream, KeptBody, not_json
from headgate.values import Usage
from headgate.wire.answers import MOST_TOKENS, NOT_JSON

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from headgate.providers.events import Event, FinishReason
    from headgate.values import Call

# A turn that stops for a reason unknown here may not be over.
_REASONS: Mapping[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "ERROR_LIMIT": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
}


class _Message(msgspec.Struct, gc=False):
    content: list[dict[str, Any]] | str | None = None
    tool_plan: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    citations: list[dict[str, Any]] | None = None


class _Whole(msgspec.Struct, gc=False):
    message: _Message | str | None = None  # a text: it is an error
    finish_reason: str | None = None
    usage: Any = None
    logprobs: list[dict[str, Any]] | None = None


class _StreamEvent(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    delta: dict[str, Any] | None = None
    logprobs: dict[str, Any] | None = None


_decode_whole = msgspec.json.Decoder(_Whole).decode
_decode_event = msgspec.json.Decoder(_StreamEvent).decode


class _Answer:
    """What the parts of one answer say."""

    __slots__ = ("_call", "_cites", "_keys", "_single")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._cites = "citation_options" in call.members
        self._single = wants_one_call(call)
        self._keys: set[int] = set()  # of the calls of tools that are shown

    def content(self, block: Mapping[str, Any], logprobs: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
        """Yield what a piece of content says."""
        if thought := _text(block.get("thinking")):
            yield ThoughtPiece(thought)
        if text := _text(block.get("text")):
            yield TextPiece(text, logprobs=tuple(map(_token, logprobs)))

    def calls(self, key: int, call: Mapping[str, Any]) -> Iterator[Event]:
        """Yield that a call of a tool begins, and what there is of its arguments."""
        if self._keys and self._single:
            return
        self._keys.add(key)
        name = _text(_function(call).get("name"))
        yield ToolStart(key, _text(call.get("id")) or call_id(self._call, 0, key), name)
        yield from self.arguments(key, call)

    def arguments(self, key: int, call: Mapping[str, Any]) -> Iterator[Event]:
        """Yield a piece of a call's arguments."""
        if key in self._keys:
            yield ToolPiece(key, _text(_function(call).get("arguments")))

    def cited(self, citation: Mapping[str, Any]) -> Iterator[Event]:
        """Yield a citation: one for each page, or one as it is."""
        start, end, sources = (citation.get(name) for name in ("start", "end", "sources"))
        span = {"start_index": start or 0, "end_index": end or 0}
        pages = [page for source in sources or () if (page := _page(source)) is not None]
        for page in pages:
            yield Cited({"type": "url_citation", "url_citation": {**span, **page}})
        if self._cites and not pages:
            yield Cited({"type": "citation", "citation": dict(citation)})

    @staticmethod
    def end(reason: str | None, usage: Any, error: Any = None) -> Iterator[Event]:
        """Yield the count, and how the message ended where it has.

        Raises:
            UpstreamError: it ended with a fault.
        """
        yield from _counted(usage)
        if reason == "ERROR" or error:
            raise UpstreamFailed(
                _text(error) or "The provider had an error while it made the answer. Try again.",
                upstream_status=502,
            )
        if reason == "TIMEOUT":
            raise UpstreamTimeout("The provider's model did not finish its answer in time.")
        if reason is not None:
            yield Stopped(_REASONS.get(reason, "length"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _function(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call.get("function")
    return function if isinstance(function, dict) else {}


def _token(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the logprob of a piece of text, which is mostly one token."""
    text, logprobs = _text(item.get("text")), item.get("logprobs") or ()
    return {"token": text, "logprob": float(sum(logprobs)), "bytes": list(text.encode()), "top_logprobs": []}


def _page(source: Any) -> dict[str, str] | None:
    """Return the address and the title of a source that is a page."""
    document = source.get("document") if isinstance(source, dict) else None
    url = document.get("url") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(url, str):
        return None
    return {"url": url, "title": _text(document.get("title"))}


def _counted(usage: Any) -> Iterator[Counted]:
    """Yield what is billed; where that is not said, what was read and written."""
    given: dict[str, Any] = usage if isinstance(usage, dict) else {}
    for name in ("billed_units", "tokens"):
        part = given.get(name)
        if isinstance(part, dict) and part.keys() & {"input_tokens", "output_tokens"}:
            counts = [part.get(member) or 0 for member in ("input_tokens", "output_tokens")]
            yield Counted(_usage(counts))
            return


def _usage(counts: list[Any]) -> Usage | None:
    if any(type(count) not in {int, float} or not 0 <= count <= MOST_TOKENS for count in counts):
        return None
    given, made = map(int, counts)
    return Usage(given, made) if [given, made] == counts and (given or made) else None


class WholeSource(KeptBody):
    """A whole answer. Implements `Source`."""

    __slots__ = ("_answer",)

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._answer = _Answer(call)

    def finish(self) -> Iterable[Event]:
        """Yield what the answer says."""
        body = self._body.whole()
        try:
            whole = _decode_whole(body)
        except NOT_JSON as fault:
            raise not_json(fault) from fault
        if isinstance(whole.message, str):
            raise mistake(Head(502, ()), body)
        yield from self._events(whole, whole.message or _Message())
        self.done = True

    def _events(self, whole: _Whole, message: _Message) -> Iterator[Event]:
        answer, logprobs = self._answer, whole.logprobs or []
        content = message.content
        blocks = [{"text": content}] if isinstance(content, str) else content or ()
        if message.tool_plan:
            yield ThoughtPiece(message.tool_plan)
        for block in blocks:
            yield from answer.content(block, logprobs)
            logprobs = [] if block.get("text") else logprobs
        for key, call in enumerate(message.tool_calls or ()):
            yield from answer.calls(key, call)
        for citation in message.citations or ():
            yield from answer.cited(citation)
        yield from answer.end(whole.finish_reason, whole.usage)


class StreamSource(DataStream):
    """A stream of an answer. Implements `Source`."""

    __slots__ = ("_answer",)

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._answer = _Answer(call)

    def _data(self, data: bytes) -> Iterator[Event]:
        try:
            event = _decode_event(data)
        except NOT_JSON as fault:
            raise not_json(fault) from fault
        if not event.type:
            raise mistake(Head(500, ()), data)
        yield from self._event(event)

    def _event(self, event: _StreamEvent) -> Iterator[Event]:
        answer, delta = self._answer, event.delta or {}
        match event.type, delta.get("message"):
            case "content-start" | "content-delta", {"content": dict(content)}:
                yield from answer.content(content, [event.logprobs] if event.logprobs else ())
            case "tool-plan-delta", {"tool_plan": str(plan)}:
                yield ThoughtPiece(plan)
            case "tool-call-start", {"tool_calls": (dict(call)) | [dict(call)]}:
                yield from answer.calls(event.index, call)
            case "tool-call-delta", {"tool_calls": (dict(call)) | [dict(call)]}:
                yield from answer.arguments(event.index, call)
            case "citation-start", {"citations": (dict(citation)) | [dict(citation)]}:
                yield from answer.cited(citation)
            case "message-end", _:
                yield from answer.end(delta.get("finish_reason"), delta.get("usage"), delta.get("error"))
                self.done = True
