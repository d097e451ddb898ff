"""Embeddings by InvokeModel, whose bodies are each maker's own: Titan's and Cohere's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.errors import CallerError, NotFound
from headgate.providers.cohere.embeddings import asked
from headgate.providers.stance import leave_out
from headgate.providers.vectors import texts_of

if TYPE_CHECKING:
    from headgate.providers.vectors import Wire
    from headgate.values import Call, Target


def wire_of(model: str) -> Wire:
    """Return the form of a model's embeddings.

    Raises:
        NotFound: it makes none that we know.
    """
    name = model.lower()
    if "titan-embed" in name:
        return TITAN
    if "cohere.embed" in name:
        return COHERE
    raise NotFound("This model does not support embeddings.", param="model")


class _Titan:
    """Amazon's: one text in a request."""

    def body(self, call: Call, target: Target) -> dict[str, Any]:
        """Return the body of a request.

        Raises:
            CallerError: there are several texts.
        """
        texts, given = texts_of(call, target, {"dimensions", "normalize"})
        if len(texts) > 1:
            raise CallerError(
                f"Invalid 'input': this model embeds one text at a time, and {len(texts)} were given. Ask "
                "once for each.",
                param="input",
                code="unsupported_value",
            )
        body: dict[str, Any] = {"inputText": texts[0]}
        name = target.model.name
        if "normalize" in given:
            body["normalize"] = given["normalize"]
        if "dimensions" not in given:
            return body
        if "titan-embed-image" in name:
            return body | {"embeddingConfig": {"outputEmbeddingLength": int(given["dimensions"])}}
        if "titan-embed-text-v1" in name:
            leave_out(call, target, "dimensions", tuning=False)
            return body
        return body | {"dimensions": int(given["dimensions"])}

    def vectors(self, answer: dict[str, Any]) -> tuple[list[Any], Any]:
        """Return the vector of an answer, and the count of the input."""
        return [answer["embedding"]], answer.get("inputTextTokenCount")


class _Cohere:
    """Cohere's: up to 96 texts. Its answer holds no count, so ours is booked."""

    def body(self, call: Call, target: Target) -> dict[str, Any]:
        """Return the body of a request."""
        return asked(call, target)

    def vectors(self, answer: dict[str, Any]) -> tuple[list[Any], Any]:
        """Return the vectors of an answer in order."""
        found = answer["embeddings"]
        return (found["float"] if isinstance(found, dict) else found), None


TITAN, COHERE = _Titan(), _Cohere()
