"""Embeddings: what is asked of Cohere's models, and its own answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headgate.providers.stance import leave_out
from headgate.providers.vectors import texts_of

if TYPE_CHECKING:
    from headgate.values import Call, Target


_OF_ONE_SIZE = re.compile(r"-v[23](\.|$)")  # those from version 4 on have vectors of several sizes


def asked(call: Call, target: Target) -> dict[str, Any]:
    """Return what every seller of Cohere's models takes: at most 96 texts, and what they are.

    Texts are taken for documents where the caller does not say by `input_type`, which OpenAI does not have.
    """
    texts, given = texts_of(call, target, {"dimensions", "input_type", "truncate"})
    body: dict[str, Any] = {"texts": texts, "input_type": given.get("input_type", "search_document")}
    if "truncate" in given:
        body["truncate"] = given["truncate"]
    if "dimensions" in given and _OF_ONE_SIZE.search(target.model.name) is None:
        body["output_dimension"] = int(given["dimensions"])
    elif "dimensions" in given:
        leave_out(call, target, "dimensions", tuning=False)
    return body


class Embed:
    """Cohere's own. Implements `Wire`."""

    __slots__ = ()

    def body(self, call: Call, target: Target) -> dict[str, Any]:
        """Return the body of a request. A text that is too long is refused, as by OpenAI, and not cut."""
        common = {"model": target.model.name, "embedding_types": ["float"], "truncate": "NONE"}
        return common | asked(call, target)

    def vectors(self, answer: dict[str, Any]) -> tuple[list[Any], Any]:
        """Return the vectors of an answer in order, and the count of the input that is billed, or None."""
        billed = (answer.get("meta") or {}).get("billed_units") or {}
        count = billed.get("input_tokens")
        if isinstance(count, float) and count.is_integer():
            count = int(count)
        return answer["embeddings"]["float"], count
