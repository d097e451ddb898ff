"""Claude at Google's Vertex AI: Anthropic's messages under Google's paths, with Google's credential. No I/O.

The model stands in the path and not in the body, the version in the body and not in a header. Errors are
Anthropic's where Claude was asked, and Google's where it was not.

Facts: Anthropic's page on Claude at Google Cloud and the client for it in its Python SDK, Google's pages on
Claude. Schemas that a model keeps to, of answers and of tools, Google lets an organisation have that allows
`structured_outputs` in `constraints/vertexai.allowedPartnerModelFeatures`, and refuses others; so they are
sent where the settings say `schema = "enforced"`, and stand in a tool without that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.ports import Request
from headgate.providers.anthropic.codec import MessagesCodec, kept, versioned
from headgate.providers.anthropic.errors import mistake as claudes_mistake
from headgate.providers.codec import headers_of, name_in_path
from headgate.providers.gemini.errors import mistake as googles_mistake
from headgate.wire.answers import NOT_JSON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.errors import UpstreamError
    from headgate.ports import Head
    from headgate.providers.codec import Codec
    from headgate.values import Call, Operation, Schemas, Target

VERSION: Final = "vertex-2023-10-16"
PUBLISHER: Final = "publishers/anthropic/models"
_encode = msgspec.json.encode


def keeps_schema_at_vertex(call: Call, target: Target) -> Schemas:
    """Return what Claude does there for the JSON that an answer shall be."""
    return kept(call, target, keeps=_allowed(target))


def _allowed(target: Target) -> bool:
    return target.host.schema == "enforced"


class PredictCodec(MessagesCodec):
    """Speak `:rawPredict` and `:streamRawPredict` for chat."""

    __slots__ = ()

    def keeps(self, target: Target) -> bool:
        """Say whether a host takes schemas that it keeps to: where its organisation allows that."""
        return _allowed(target)

    def _request(self, call: Call, target: Target, body: dict[str, Any], known: tuple[str, str]) -> Request:
        body.pop("model")
        verb = "streamRawPredict" if call.stream else "rawPredict"
        path = f"{target.base_path}/{PUBLISHER}/{name_in_path(target)}:{verb}"
        body["anthropic_version"] = VERSION
        headers = versioned(headers_of(target), "", known[1])
        return Request("POST", path, headers, _encode(body), call.request_id)

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means for the caller."""
        return mistake(head, body)


def mistake(head: Head, body: bytes) -> UpstreamError:
    """Return what a refusing answer means, whoever of the two refused."""
    try:
        told = msgspec.json.decode(body)
    except NOT_JSON:
        told = None
    claudes = isinstance(told, dict) and told.get("type") == "error"
    return (claudes_mistake if claudes else googles_mistake)(head, body)


AT_VERTEX: Mapping[Operation, Codec] = {"chat": PredictCodec()}
