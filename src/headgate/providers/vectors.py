"""Embeddings on other wires than OpenAI's: what is asked, and the answer as OpenAI writes it.

A `Wire` says what the answer's JSON holds; all else is the same for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from headgate.errors import UpstreamInterrupted
from headgate.providers.compat import embeddings_answer
from headgate.providers.edits import usage_object
from headgate.providers.parts import unsupported
from headgate.providers.sources import not_json
from headgate.providers.stance import reconcile
from headgate.providers.whole import KeptAnswer
from headgate.values import Usage
from headgate.wire.answers import MOST_TOKENS, NOT_JSON

if TYPE_CHECKING:
    from collections.abc import Collection

    from headgate.values import Call, Target

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Wire(Protocol):
    """One form that embeddings have."""

    def body(self, call: Call, target: Target) -> dict[str, Any]:
        """Return the body of a request."""
        ...

    def vectors(self, answer: dict[str, Any]) -> tuple[list[Any], Any]:
        """Return the vectors of an answer in order, and the count of the input or None.

        Raises:
            KeyError, TypeError, AttributeError: it is none.
        """
        ...


def texts_of(call: Call, target: Target, honoured: Collection[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the texts, and the other members that are honoured.

    Raises:
        CallerError: token ids, which are those of another tokenizer.
    """
    given = reconcile(call, target, {"input", "encoding_format", *honoured})
    texts = given.pop("input")
    texts = texts if isinstance(texts, list) else [texts]
    if not all(isinstance(text, str) for text in texts):
        raise unsupported("input")
    return texts, given


class EmbeddingsReader(KeptAnswer):
    """Read one answer. Implements `ports.Reader`."""

    __slots__ = ("_call", "_vectors", "_wire")

    def __init__(self, call: Call, wire: Wire) -> None:
        super().__init__()
        self._call = call
        self._wire = wire
        self._vectors: list[Any] = []

    def finish(self) -> bytes:
        """Read the answer.

        Raises:
            UpstreamInterrupted: it is none, or not of all inputs.
        """
        try:
            vectors, count = self._wire.vectors(_decode(self._body.whole()))
        except (*NOT_JSON, KeyError, TypeError, AttributeError) as fault:
            raise not_json(fault) from fault
        if len(vectors) != self._call.inputs or not all(isinstance(vector, list) for vector in vectors):
            raise UpstreamInterrupted("The provider's answer lacks some of its embeddings.")
        self._vectors = vectors
        if type(count) is int and 0 < count <= MOST_TOKENS:
            self._usage = Usage(count, 0)
        self.done = True
        return b""

    def end(self, booked: Usage) -> bytes:
        """Return the answer; its usage is the one that was booked."""
        answer = {
            "data": [{"embedding": vector} for vector in self._vectors],
            "usage": usage_object(booked, "embeddings"),
        }
        return embeddings_answer(answer, self._call)

    def produced(self) -> int:
        """Return 0: vectors are no tokens."""
        return 0
