"""Tokens as the named model counts them: of a request, and piece by piece of an answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.money.tokens import THREAD_ABOVE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headgate.money.tokens import Tokenizers
    from headgate.values import Model, Operation

_DEFAULT = "o200k_base"  # for models whose own tokenizer is not shipped


@dataclass(frozen=True, slots=True)
class Cut:
    """A text within its limit. `pieces` is empty unless asked for; they join to `text`."""

    text: str = ""
    pieces: tuple[str, ...] = ()
    tokens: int = 0
    cut: bool = False


class ModelTokens:
    """The tokens of one model. A wait may load a vocabulary, once for the process."""

    __slots__ = ("_encoding", "_model", "_tokenizers")

    def __init__(self, tokenizers: Tokenizers, model: Model) -> None:
        self._tokenizers = tokenizers
        self._encoding = model.tokenizer or _DEFAULT
        self._model = msgspec.structs.replace(model, tokenizer=self._encoding)

    @property
    def dimensions(self) -> int:
        """Return the length of the model's embeddings; 0 when it is not known."""
        return self._model.dimensions

    async def of_request(self, operation: Operation, members: Mapping[str, Any]) -> int:
        """Return the input tokens of a request's decoded body."""
        return (await self._tokenizers.count(self._model, operation, members)).tokens

    async def cut(self, text: str, limit: int | None, *, split: bool) -> Cut:
        """Return the text cut to `limit` tokens (None: whole), with its pieces when `split` is true.

        A text that is cut counts exactly `limit` tokens, as OpenAI bills it, although the last tokens
        may be parts of a character that is not shown.
        """
        if not text:
            return Cut()
        await self._tokenizers.load(self._encoding)
        if len(text) > THREAD_ABOVE_BYTES:
            ids = await asyncio.to_thread(self._tokenizers.encode, self._encoding, text)
        else:
            ids = self._tokenizers.encode(self._encoding, text)
        whole = limit is None or len(ids) <= limit
        if whole and not split:
            return Cut(text, (), len(ids))
        pieces = self._pieces(ids[:limit])
        return Cut("".join(pieces), tuple(pieces), len(ids[:limit]), cut=not whole)

    async def texts_of(self, given: str | Sequence[str | int | list[int]]) -> list[str]:
        """Return the texts of a prompt or an input: a text, texts, token ids, or lists of token ids.

        Raises:
            ValueError: the model has no such token.
        """
        if isinstance(given, str):
            return [given]
        ids = [item for item in given if isinstance(item, int)]
        if ids:
            return [await self._text_of(ids)]
        return [
            item if isinstance(item, str) else await self._text_of(item)
            for item in given
            if not isinstance(item, int)
        ]

    async def _text_of(self, ids: Sequence[int]) -> str:
        """Return the text of token ids.

        Raises:
            ValueError: the model has no such token.
        """
        await self._tokenizers.load(self._encoding)
        try:
            return self._tokenizers.decode(self._encoding, list(ids)).decode("utf-8", "replace")
        except (KeyError, OverflowError) as error:
            raise ValueError("a token id is not in the model's vocabulary") from error

    def _pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token; tokens that hold parts of one character become one piece."""
        decode, encoding = self._tokenizers.decode, self._encoding
        pieces = []
        held = b""
        for token in ids:
            held += decode(encoding, [token])
            try:
                pieces.append(held.decode())
            except UnicodeDecodeError:
                continue
            held = b""
        return pieces
