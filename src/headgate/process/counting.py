"""Count here what a provider did not: inputs near a window or a cap, outputs of answers that broke off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate.money.tally import utf8_length
from headgate.money.tokens import estimate_text
from headgate.wire.checks import Json, decode_any

if TYPE_CHECKING:
    from headgate.money.tokens import Count, Tokenizers
    from headgate.values import Call, Target

_SHORT = 20_000  # characters that are counted on the loop


class LocalCounter:
    """Count tokens with the shipped tokenizers. Implements `pipeline.Counter`."""

    __slots__ = ("_tokenizers",)

    def __init__(self, tokenizers: Tokenizers) -> None:
        self._tokenizers = tokenizers

    async def input_tokens(self, call: Call, target: Target) -> int:
        """Return the input's tokens, exact where the model's tokenizer is known."""
        return (await self._count(call, target)).tokens

    async def longest_input(self, call: Call, target: Target) -> int:
        """Return the tokens of the longest of a call's inputs: each has the window for itself."""
        members = _counted(call)
        if call.inputs > 1:
            name = "input" if call.operation == "embeddings" else "prompt"
            members[name] = [max(members[name], key=_size)]
        return (await self._tokenizers.count(target.model, call.operation, members)).tokens

    async def _count(self, call: Call, target: Target) -> Count:
        members = _counted(call)
        return await self._tokenizers.count(target.model, call.operation, members)

    async def input_bound(self, call: Call, target: Target) -> int:
        """Return the most tokens that the input can be, counted where the tokenizer is known."""
        return (await self._count(call, target)).bound

    async def output_tokens(self, text: str, target: Target) -> int:
        """Return the tokens of a produced text."""
        encoding = target.model.tokenizer
        if not encoding:
            return estimate_text(target.model, text)
        await self._tokenizers.load(encoding)
        if len(text) < _SHORT:
            return self._tokenizers.count_text(encoding, text)
        return await asyncio.to_thread(self._tokenizers.count_text, encoding, text)


_COUNTED = frozenset(
    {
        "messages",
        "prompt",
        "input",
        "suffix",
        "tools",
        "functions",
        "response_format",
        "tool_choice",
        "web_search_options",
    }
)


def _counted(call: Call) -> dict[str, Json]:
    members = {name: decode_any(raw) for name, raw in call.members.items() if name in _COUNTED}
    given = members.get("input")
    if isinstance(given, list) and given and isinstance(given[0], dict):  # parts that are to be moderated
        members["input"] = [part.get("text", "") for part in given]
    return members


def _size(given: Json) -> int:
    """Return a text's bytes, or what as many token ids usually stand for."""
    return utf8_length(given) if isinstance(given, str) else 4 * len(given)
