"""Anthropic's Messages API (`POST /v1/messages`), its own and as Google's Vertex AI has it. No I/O.

Facts: Anthropic's API reference and the types of its Python SDK 2.14. The version is pinned call by call:
`2026-10-21` knows no sampling parameters (400 even for their defaults), so a call that has some goes out as
`2023-06-01`.
"""

from __future__ import annotations

from headgate.providers.anthropic.batches import MessageBatches
from headgate.providers.anthropic.codec import CODECS, credentials, keeps_schema
from headgate.providers.anthropic.face import CountFace, MessagesFace
from headgate.providers.anthropic.vertex import AT_VERTEX, keeps_schema_at_vertex
from headgate.providers.anthropic.vertexjobs import ClaudeJobs

__all__ = [
    "AT_VERTEX",
    "CODECS",
    "ClaudeJobs",
    "CountFace",
    "MessageBatches",
    "MessagesFace",
    "credentials",
    "keeps_schema",
    "keeps_schema_at_vertex",
]
