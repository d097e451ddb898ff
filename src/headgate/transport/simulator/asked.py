"""The request bodies, as far as the simulator reads them. The gateway has validated them before."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

Language = Literal["en", "zh"]
JSONObject: TypeAlias = dict[str, Any]

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_LATIN_WORD = re.compile(r"[A-Za-z]{2,}")
_KANA_OR_HANGUL = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")
_IN_ENGLISH = re.compile(
    r"\b(?:answer|reply|respond|speak|write|talk)\b[^.!?\n]{0,30}\bin english\b|用英[文语]", re.IGNORECASE
)
_IN_CHINESE = re.compile(
    r"\b(?:answer|reply|respond|speak|write|talk)\b[^.!?\n]{0,30}\bin (?:simplified )?chinese\b"
    r"|用(?:简体)?(?:中文|汉语|普通话)",
    re.IGNORECASE,
)


class StreamOptions(msgspec.Struct):
    """What the caller wants of a stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatAsked(msgspec.Struct):
    """The body of `/chat/completions`."""

    model: str
    messages: list[JSONObject]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: JSONObject | None = None
    tools: list[JSONObject] | None = None
    tool_choice: str | JSONObject | None = None
    parallel_tool_calls: bool | None = None
    functions: list[JSONObject] | None = None
    function_call: str | JSONObject | None = None

    @property
    def limit(self) -> int | None:
        """Return the output limit in tokens."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


class CompletionAsked(msgspec.Struct):
    """The body of `/completions`."""

    model: str
    prompt: str | list[str | int | list[int]] | None = "<|endoftext|>"
    max_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    echo: bool | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: int | None = None


class EmbeddingsAsked(msgspec.Struct):
    """The body of `/embeddings`."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: str | None = None
    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked: the last user message, and what surrounds it."""

    text: str
    language: Language = "en"
    system: str = ""
    earlier: tuple[str, ...] = ()  # user messages before the last, oldest first


def read_prompt(messages: Sequence[JSONObject]) -> Prompt:
    """Return the prompt of a conversation."""
    said = [text_of(m.get("content")) for m in messages if m.get("role") == "user"]
    system = "\n".join(
        text_of(m.get("content")) for m in messages if m.get("role") in {"system", "developer"}
    )
    text = said[-1].strip() if said else ""
    return Prompt(text, language_of(text, system), system.strip(), tuple(said[:-1]))


def plain_prompt(text: str) -> Prompt:
    """Return the prompt of a bare text."""
    return Prompt(text.strip(), language_of(text, ""))


def text_of(content: object) -> str:
    """Return the text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str)]
    return "\n".join(texts)


def language_of(text: str, system: str) -> Language:
    """Return the language to answer in: the one that is asked for, else the prompt's own."""
    for words in (text, system):
        if _IN_ENGLISH.search(words):
            return "en"
        if _IN_CHINESE.search(words):
            return "zh"
    sample = (text or system)[:2000]
    han = len(_HAN.findall(sample))
    if not han or _KANA_OR_HANGUL.search(sample):
        return "en"
    # A Han character says about as much as an English word, so a mixed prompt goes by its majority.
    return "zh" if han >= len(_LATIN_WORD.findall(sample)) else "en"


def stops_of(stop: str | list[str] | None) -> tuple[str, ...]:
    """Return the stop sequences."""
    if stop is None:
        return ()
    return tuple(s for s in ([stop] if isinstance(stop, str) else stop) if s)


def before_stop(text: str, stops: Sequence[str]) -> str:
    """Return the text before the first stop sequence in it."""
    ends = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return text[: min(ends)] if ends else text
