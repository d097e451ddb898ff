"""What we read of an answer on the OpenAI wire: usage, text and the shape; the rest passes as bytes."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from headgate.values import Usage

# What decoding foreign bytes raises: broken JSON or wrong types, text that is not UTF-8, absurd depth.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


MOST_TOKENS = 1_000_000_000  # of one call: beyond it a count is a slip, not a count
_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = 0
    audio_tokens: int | None = 0
    cache_write_tokens: int | None = 0


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = 0
    audio_tokens: int | None = 0


_NO_INPUT, _NO_OUTPUT = _InputDetails(), _OutputDetails()


class WireUsage(msgspec.Struct, gc=False):
    """`usage` as OpenAI and its compatible hosts send it."""

    prompt_tokens: _Count | None = 0
    completion_tokens: _Count | None = 0
    total_tokens: int | float | None = 0
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek
    cached_tokens: int | None = None  # Moonshot

    def read(self) -> Usage | None:
        """Return the usage, or None when a count is not a count: it is then not believed."""
        return self.told()[0]

    def told(self) -> tuple[Usage | None, bool]:
        """Return the same, and whether a client that reads this as OpenAI's own reads exactly that usage."""
        got, out = self.prompt_tokens, self.completion_tokens
        given, made = self.prompt_tokens_details, self.completion_tokens_details
        if (
            (given is None or given == _NO_INPUT)
            and (made is None or made == _NO_OUTPUT)
            and got
            and out is not None
            and not (self.prompt_cache_hit_tokens or self.cached_tokens)
        ):
            return Usage(got, out), self.total_tokens == got + out  # nearly all
        usage = self._added_up()
        return usage, usage is not None and self._says(usage)

    def _added_up(self) -> Usage | None:
        """Return the usage with all its parts, or None where they cannot be parts of it."""
        got, out = self.prompt_tokens or 0, self.completion_tokens or 0
        given, made = self.prompt_tokens_details or _NO_INPUT, self.completion_tokens_details or _NO_OUTPUT
        cached = self.prompt_cache_hit_tokens or self.cached_tokens or 0
        parts = (
            given.cached_tokens or cached,
            given.cache_write_tokens or 0,
            made.reasoning_tokens or 0,
            given.audio_tokens or 0,
            made.audio_tokens or 0,
        )
        if min(parts) < 0 or max(parts) > MOST_TOKENS:
            return None
        usage = Usage(got, out, *parts)
        extra = usage.reasoning_tokens
        if extra and self.total_tokens == usage.input_tokens + usage.output_tokens + extra:
            # xAI counts reasoning beside the completion; elsewhere it is a part of it.
            usage = msgspec.structs.replace(usage, output_tokens=usage.output_tokens + extra)
        parts_in = usage.cached_tokens + usage.cache_write_tokens
        if usage.input_tokens == 0 and usage.output_tokens == 0:
            return None
        if parts_in > usage.input_tokens or usage.reasoning_tokens > usage.output_tokens:
            return None
        return usage

    def _says(self, usage: Usage) -> bool:
        """Say whether a client that reads this as OpenAI's own reads exactly that usage."""
        given = self.prompt_tokens_details
        made = self.completion_tokens_details
        return (
            self.prompt_tokens == usage.input_tokens
            and self.completion_tokens == usage.output_tokens
            and self.total_tokens == usage.input_tokens + usage.output_tokens
            and ((given.cached_tokens or 0) if given is not None else 0) == usage.cached_tokens
            and ((made.reasoning_tokens or 0) if made is not None else 0) == usage.reasoning_tokens
        )


UNREADABLE = WireUsage()  # a usage that is not of the wire's types: there, and not believed


class Function(msgspec.Struct, gc=False):
    """A called function; its arguments are text that was produced."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct, gc=False):
    """A tool call or a fragment of one."""

    function: Function | None = None


class Delta(msgspec.Struct, gc=False):
    """The text-bearing members of a message or of a delta."""

    content: str | list[Any] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None

    def pieces(self) -> str:
        """Return all text of the delta in one string."""
        content = self.content
        if (
            type(content) is str
            and self.tool_calls is None
            and self.reasoning_content is None
            and self.reasoning is None
            and self.refusal is None
            and self.function_call is None
        ):
            return content
        parts = [self.reasoning_content or self.reasoning or ""]  # thought first, as in a stream
        parts.append(content if type(content) is str else "".join(map(_part_text, content or ())))
        parts.append(self.refusal or "")
        functions = [call.function for call in self.tool_calls or ()]
        for function in (*functions, self.function_call):
            if function is not None:
                parts += (function.name or "", function.arguments or "")
        return "".join(parts)


def _part_text(part: Any) -> str:
    """Return the text of a part of a content; Mistral's thoughts are parts within a part."""
    if not isinstance(part, dict):
        return ""
    text = part.get("text") or part.get("thinking")
    if isinstance(text, list):
        text = "".join(str(inner.get("text", "")) for inner in text if isinstance(inner, dict))
    return text if isinstance(text, str) else ""


class Choice(msgspec.Struct, gc=False):
    """One choice of an answer or of a chunk."""

    index: int | None = 0
    message: Delta | None = None
    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class Embedding(msgspec.Struct, gc=False):
    """One row of an embeddings answer; the vector stays as it came."""

    embedding: msgspec.Raw


class Answer(msgspec.Struct, gc=False):
    """A JSON answer or a stream's chunk, as far as we look."""

    model: str | None = None
    choices: list[Choice] | None = None
    data: list[Embedding] | None = None
    usage: WireUsage | None = None
    error: Any = None


class AnswerWithoutUsage(msgspec.Struct, gc=False):
    """An answer whose usage is not of the wire's types: the answer is good, the count is absent."""

    model: str | None = None
    choices: list[Choice] | None = None
    data: list[Embedding] | None = None
    error: Any = None


decode_answer = msgspec.json.Decoder(Answer).decode
decode_without_usage = msgspec.json.Decoder(AnswerWithoutUsage).decode


class ErrorDetail(msgspec.Struct, gc=False):
    """`error` of a provider's error body; hosts vary in the types."""

    message: str | None = None
    type: str | None = None
    param: Any = None
    code: Any = None
    status: Any = None


class ErrorBody(msgspec.Struct, gc=False):
    """An error body in OpenAI's shape, or nearly."""

    error: ErrorDetail | str | None = None
    message: str | None = None
    detail: Any = None


decode_error = msgspec.json.Decoder(ErrorBody).decode
