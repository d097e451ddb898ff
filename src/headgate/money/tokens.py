"""How many input tokens a request is: exactly where that can be known, else at most.

OpenAI counts a conversation as `3 + sum(3 + role + content [+ 1 + name])` tokens, one fewer for
models that reason (checked on recorded traffic without tools). Tools, images, files and schemas
have no public formula: their tokens are estimated, and bounded from above.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.money.tally import Tally, tally_chat, tally_inputs, utf8_length
from headgate.money.vocab import Vocabularies, pieces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headgate.values import Model, Operation

# Recorded counts fall short of the formula or pass it by a few tokens now and then.
SLACK: Final = 32
# Above this much text a count is worth a thread: about 20,000 tokens, 6 ms.
THREAD_ABOVE_BYTES: Final = 65_536

_PPM = 1_000_000
# What a chat template may add around messages where we do not know it.
_UNKNOWN_TEMPLATE: Final = 128
_UNKNOWN_PER_MESSAGE: Final = 16


class Count(msgspec.Struct, frozen=True, gc=False):
    """The input tokens of a request."""

    tokens: int
    exact: bool  # else `tokens` is an estimate
    bound: int  # the provider will not count more


class Tokenizers(Vocabularies):
    """Counts the input of requests with the tokenizers that are loaded.

    What is not loaded is never loaded on the way: the count is then an estimate with a bound.
    """

    def count_chat(
        self,
        model: Model,
        messages: Sequence[Mapping[str, Any]],
        members: Mapping[str, Any] | None = None,
    ) -> Count:
        """Count a conversation.

        Args:
            model: whose tokenizer, template and window apply.
            messages: as on the wire, decoded and type-checked.
            members: the other members of the request (`tools`, `response_format`, …), decoded.
        """
        tally = tally_chat(messages, members or {}, model.image_tokens)
        if model.wants_max_completion_tokens:
            tally.tokens -= 1  # models that reason are also those that refuse `max_tokens`
        return self._count(model, tally, SLACK, windows=1)

    def count_input(self, model: Model, operation: Operation, members: Mapping[str, Any]) -> Count:
        """Count the input of a request by its operation.

        Args:
            model: whose tokenizer, template and window apply.
            operation: decides which member is the input.
            members: of the request's body, decoded and type-checked.
        """
        if operation == "chat":
            return self.count_chat(model, members.get("messages") or (), members)
        given = members.get("prompt", members.get("input"))
        tally = tally_inputs(given, members.get("suffix"))
        return self._count(model, tally, 0, windows=tally.items)

    async def count(self, model: Model, operation: Operation, members: Mapping[str, Any]) -> Count:
        """Count as `count_input`, loading the model's tokenizer, and off the loop when long."""
        if model.tokenizer:
            await self.load(model.tokenizer)
        if _is_short(members):
            return self.count_input(model, operation, members)
        return await asyncio.to_thread(self.count_input, model, operation, members)

    def _count(self, model: Model, tally: Tally, slack: int, windows: int) -> Count:
        loaded = bool(model.tokenizer) and self.ready(model.tokenizer)

        def count(text: str) -> int:
            return self.count_text(model.tokenizer, text) if loaded else estimate_text(model, text)

        counted = sum(map(count, tally.texts))
        tokens = max(0, counted + sum(map(count, tally.shapes)) + tally.tokens)
        sure = loaded and model.exact and all(len(pieces(text)) == 1 for text in tally.texts)
        if sure:
            bound = counted + slack
        else:
            bound = sum(bytes_bound(model, text) for text in tally.texts)
            bound += _UNKNOWN_TEMPLATE + _UNKNOWN_PER_MESSAGE * tally.items
        bound += tally.bound + sum(bytes_bound(model, text) for text in tally.shapes)
        return Count(
            tokens, sure and tally.exact, _within(model.context_window * windows, max(bound, tokens))
        )


def estimate_text(model: Model, text: str) -> int:
    """Estimate the tokens of a text for a model whose tokenizer is not shipped.

    Four ASCII characters to a token, one CJK character to a token, two of most other scripts.
    """
    del model  # families differ by less than texts do
    size = utf8_length(text)
    wide = size - len(text)  # 1 for each Latin or Cyrillic letter beyond ASCII, 2 for each CJK one
    plain = len(text) if not wide else len(text.encode("ascii", "ignore"))
    return -(-(plain + 2 * wide) // 4)


def bytes_bound(model: Model, text: str) -> int:
    """Return the most tokens that a text can be: a byte-level tokenizer makes one of each byte."""
    return -(-utf8_length(text) * model.bytes_factor_ppm // _PPM)


def _within(window: int, bound: int) -> int:
    # The provider refuses a longer input, and we do not believe a usage beyond the window.
    return min(bound, window) if window else bound


def _is_short(members: Mapping[str, Any]) -> bool:
    size = 0
    pending: list[Any] = list(members.values())
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            size += len(value)
        elif isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        if size + len(pending) > THREAD_ABOVE_BYTES:
            return False
    return True
