"""Embeddings: `:batchEmbedContents` of AI Studio, `:predict` of Vertex AI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from headgate.errors import UpstreamInterrupted
from headgate.providers.compat import embeddings_answer
from headgate.providers.edits import usage_object
from headgate.providers.parts import unsupported
from headgate.providers.stance import reconcile
from headgate.providers.translated import Body
from headgate.values import Usage
from headgate.wire.answers import MOST_TOKENS, NOT_JSON

if TYPE_CHECKING:
    from headgate.values import Call, Target

_HONOURED = frozenset({"input", "dimensions", "encoding_format", "task_type"})
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Wire(Protocol):
    """One of the two forms that Google's embeddings have."""

    verb: str

    def body(self, call: Call, target: Target) -> dict[str, Any]:
        """Return the body of a request."""
        ...

    def vectors(self, answer: dict[str, Any]) -> tuple[list[Any], Any]:
        """Return the vectors of an answer in order, and the count of the input or None."""
        ...


def _asked(call: Call, target: Target) -> tuple[list[str], dict[str, Any]]:
    """Return the texts, and the other members that are honoured.

    Raises:
        CallerError: token ids, which are those of another tokenizer.
    """
    given = reconcile(call, target, _HONOURED)
    texts = given.pop("input")
    texts = texts if isinstance(texts, list) else [texts]
    if not all(isinstance(text, str) for text in texts):
        raise unsupported("input")
    return texts, given


class Batch:
    """AI Studio's: a request for each text."""

    verb = "batchEmbedContents"

    def body(self, call: Call, target: Target) -> dict[str, Any]:
        """Return the body of a request."""
        texts, given = _asked(call, target)
        common: dict[str, Any] = {"model": f"models/{target.model.name}"}
        if "dimensions" in given:
            common["outputDimensionality"] = int(given["dimensions"])
        if "task_type" in given:
            common["taskType"] = given["task_type"]
        return {"requests": [{**common, "content": {"parts": [{"text": text}]}} for text in texts]}

    def vectors(self, answer: dict[str, Any]) -> tuple[list[Any], Any]:
        """Return the vectors of an answer in order, and the count of the input or None."""
        usage = answer.get("usageMetadata") or {}
        return [row["values"] for row in answer["embeddings"]], usage.get("promptTokenCount")


class Predict:
    """Vertex AI's: an instance for each text."""

    verb = "predict"

    def body(self, call: Call, target: Target) -> dict[str, Any]:
        """Return the body of a request."""
        texts, given = _asked(call, target)
        common = {"task_type": given["task_type"]} if "task_type" in given else {}
        body: dict[str, Any] = {"instances": [{"content": text, **common} for text in texts]}
        if "dimensions" in given:
            body["parameters"] = {"outputDimensionality": int(given["dimensions"])}
        return body

    def vectors(self, answer: dict[str, Any]) -> tuple[list[Any], Any]:
        """Return the vectors of an answer in order, and the count of the input or None."""
        rows = [row["embeddings"] for row in answer["predictions"]]
        counts = [(row.get("statistics") or {}).get("token_count") for row in rows]
        numbers = [count for count in counts if isinstance(count, (int, float))]
        total = int(sum(numbers)) if len(numbers) == len(rows) else None
        return [row["values"] for row in rows], total


class EmbeddingsReader:
    """Read one answer. Implements `ports.Reader`."""

    __slots__ = ("_body", "_call", "_usage", "_vectors", "_wire", "awaits_count", "done")

    def __init__(self, call: Call, wire: Wire) -> None:
        self._call = call
        self._wire = wire
        self._body = Body()
        self._vectors: list[Any] = []
        self._usage: Usage | None = None
        self.awaits_count = False
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """Keep bytes; an answer is read as a whole."""
        self._body.add(data)
        return b""

    def finish(self) -> bytes:
        """Read the answer.

        Raises:
            UpstreamInterrupted: it is none, or not of all inputs.
        """
        try:
            vectors, count = self._wire.vectors(_decode(self._body.whole()))
        except (*NOT_JSON, KeyError, TypeError, AttributeError) as fault:
            raise UpstreamInterrupted("The provider sent an answer that is not the API's JSON.") from fault
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

    def usage(self) -> Usage | None:
        """Return the provider's count."""
        return self._usage

    def produced(self) -> int:
        """Return 0: vectors are no tokens."""
        return 0

    def text(self) -> str:
        """Return no text."""
        return ""
