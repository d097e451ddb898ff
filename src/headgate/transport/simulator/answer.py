"""What the simulator answers to a conversation, and that answer cut to its limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from headgate.transport.simulator.asked import before_stop, read_prompt, stops_of, text_of
from headgate.transport.simulator.counting import Cut
from headgate.transport.simulator.facts import Facts
from headgate.transport.simulator.jsonmode import json_answer
from headgate.transport.simulator.obey import obey
from headgate.transport.simulator.sayings import REFUSAL, cannot, filler, topic
from headgate.transport.simulator.schemas import Filler
from headgate.transport.simulator.tools import ToolCall, choose_calls, tell_results

if TYPE_CHECKING:
    from headgate.transport.simulator.asked import ChatAsked, JSONObject, Prompt
    from headgate.transport.simulator.counting import ModelTokens
    from headgate.transport.simulator.wishes import Wish


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be said: a text, a refusal, or calls of tools."""

    text: str = ""
    refusal: bool = False
    calls: tuple[ToolCall, ...] = ()
    finish: str = "stop"


@dataclass(frozen=True, slots=True)
class Said:
    """An answer as it is sent, within the limits of the request.

    `text` and the arguments of `calls` have pieces when they are streamed or have log probabilities.
    """

    text: Cut
    refusal: bool
    calls: tuple[tuple[ToolCall, Cut], ...]
    tokens: int
    finish: str


def think(asked: ChatAsked, wish: Wish) -> Answer:
    """Return the answer to a conversation."""
    prompt = read_prompt(asked.messages)
    if wish.fault is not None and (content := _faulty(wish, prompt)) is not None:
        return content
    if wish.tokens or wish.is_for("long"):
        return Answer(filler(wish.tokens or wish.amount))
    calls = choose_calls(asked, prompt)
    if calls:
        return Answer(calls=calls, finish="tool_calls" if asked.tools else "function_call")
    text = (
        _shaped(asked, prompt)
        or tell_results(asked.messages, prompt.language)
        or obey(prompt)
        or cannot(prompt)
    )
    return Answer(before_stop(text, stops_of(asked.stop)))


def _faulty(wish: Wish, prompt: Prompt) -> Answer | None:
    if wish.is_for("empty"):
        return Answer()
    if wish.is_for("refusal"):
        return Answer(REFUSAL[prompt.language], refusal=True)
    if wish.is_for("echo"):
        return Answer(prompt.text)
    if wish.is_for("filter"):
        text = obey(prompt) or cannot(prompt)
        return Answer(text[: len(text) // 2], finish="content_filter")
    return None


def _shaped(asked: ChatAsked, prompt: Prompt) -> str | None:
    """Return the answer as JSON where the request wants JSON."""
    wanted = asked.response_format or {}
    value: object
    if wanted.get("type") == "json_schema":
        schema = (wanted.get("json_schema") or {}).get("schema")
        facts = Facts(_with_results(prompt.text, asked.messages))
        about = obey(prompt) or topic(prompt.text, prompt.language)
        value = Filler(schema, facts, prompt.language, eager=True, about=about).fill()
    elif wanted.get("type") == "json_object":
        value = json_answer(replace(prompt, text=_with_results(prompt.text, asked.messages)))
    else:
        return None
    return msgspec.json.encode(value).decode()


def _with_results(text: str, messages: list[JSONObject]) -> str:
    """Return the prompt with what the tools have said since."""
    results = []
    for message in reversed(messages):
        if message.get("role") not in {"tool", "function"}:
            break
        results.append(text_of(message.get("content")))
    return "\n".join([text, *reversed(results)])


async def say(answer: Answer, tokens: ModelTokens, limit: int | None, *, split: bool) -> Said:
    """Return the answer within `limit` tokens (None: no limit), in pieces when `split` is true."""
    if not answer.calls:
        text = await tokens.cut(answer.text, limit, split=split)
        return Said(text, answer.refusal, (), text.tokens, "length" if text.cut else answer.finish)
    calls: list[tuple[ToolCall, Cut]] = []
    used = 0
    for call in answer.calls:
        used += (await tokens.cut(call.name, None, split=False)).tokens
        left = None if limit is None else max(0, limit - used)
        part = await tokens.cut(call.arguments, left, split=split)
        calls.append((call, part))
        used += part.tokens
        if part.cut:
            return Said(Cut(), False, tuple(calls), limit or 0, "length")
    return Said(Cut(), False, tuple(calls), used, answer.finish)
