"""Anthropic's Messages API (`POST /v1/messages`). No I/O.

Facts: Anthropic's API reference and the types of its Python SDK 2.14. The version is pinned call by call:
`2026-10-21` knows no sampling parameters (400 even for their defaults), so a call that has some goes out as
`2023-06-01`.
"""

from __future__ import annotations

from headgate.providers.anthropic.codec import CODECS, credentials, keeps_schema
from headgate.providers.anthropic.face import CountFace, MessagesFace

__all__ = ["CODECS", "CountFace", "MessagesFace", "credentials", "keeps_schema"]
