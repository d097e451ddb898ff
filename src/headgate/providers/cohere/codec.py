"""The codecs: operations of Cohere's wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.ports import Request
from headgate.providers.chat import shape_of
from headgate.providers.cohere.answer import StreamSource, WholeSource
from headgate.providers.cohere.embeddings import Embed
from headgate.providers.cohere.errors import mistake
from headgate.providers.cohere.request import build, schema_tool
from headgate.providers.translated import TranslatedReader
from headgate.providers.vectors import EmbeddingsReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.errors import UpstreamError
    from headgate.ports import Head, Reader
    from headgate.providers.codec import Codec
    from headgate.values import Call, Operation, Target

_encode = msgspec.json.encode


class ChatCodec:
    """Speak `/chat`."""

    __slots__ = ()

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request.

        Raises:
            CallerError: what this model cannot do.
        """
        body = _encode(build(call, target))
        return Request("POST", target.base_path + "/chat", target.headers, body, call.request_id)

    def reader(self, call: Call, _target: Target) -> Reader:
        """Return a reader for a stream or for a whole answer."""
        stream = StreamSource(call) if call.stream else None
        return TranslatedReader(call, WholeSource(call), stream, schema_tool(shape_of(call)))

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means for the caller."""
        return mistake(head, body)


class EmbedCodec:
    """Speak `/embed`."""

    __slots__ = ()

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request.

        Raises:
            CallerError: what this model cannot do.
        """
        body = _encode(Embed().body(call, target))
        return Request("POST", target.base_path + "/embed", target.headers, body, call.request_id)

    def reader(self, call: Call, _target: Target) -> Reader:
        """Return a reader for the vectors."""
        return EmbeddingsReader(call, Embed())

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means for the caller."""
        return mistake(head, body)


CODECS: Mapping[Operation, Codec] = {"chat": ChatCodec(), "embeddings": EmbedCodec()}
