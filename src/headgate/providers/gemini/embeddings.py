"""Embeddings: `:batchEmbedContents` of AI Studio, `:predict` of Vertex AI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from headgate.providers.vectors import Wire, texts_of

if TYPE_CHECKING:
    from headgate.values import Call, Target

_HONOURED = frozenset({"dimensions", "task_type"})


class VerbWire(Wire, Protocol):
    """One of the two forms that Google's embeddings have."""

    verb: str


class Batch:
    """AI Studio's: a request for each text."""

    verb = "batchEmbedContents"

    def body(self, call: Call, target: Target) -> dict[str, Any]:
        """Return the body of a request."""
        texts, given = texts_of(call, target, _HONOURED)
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
        texts, given = texts_of(call, target, _HONOURED)
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
