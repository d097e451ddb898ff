"""Cohere's API, version 2: `POST /v2/chat` and `/v2/embed`. No I/O.

Facts: Cohere's API reference and its guides on streaming, tools, reasoning, structured outputs and errors,
the types of its Python SDK, and answers that its users have recorded. What it bills is not what its models
read: `billed_units` are the words of the caller and of the answer, `tokens` also what Cohere puts around.
"""

from __future__ import annotations

from headgate.providers.cohere.batches import DatasetBatches
from headgate.providers.cohere.codec import CODECS
from headgate.providers.cohere.request import keeps_schema

__all__ = ["CODECS", "DatasetBatches", "keeps_schema"]
