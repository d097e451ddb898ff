"""The codec: operations of Anthropic's wire."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.ports import Request
from headgate.providers.anthropic.answer import MessageSource, StreamSource
from headgate.providers.anthropic.errors import mistake
from headgate.providers.anthropic.face import MessagesFace
from headgate.providers.anthropic.faithful import FaithfulReader, faithful_body
from headgate.providers.anthropic.request import build, is_native
from headgate.providers.chat import shape_of
from headgate.providers.translated import TranslatedReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.errors import UpstreamError
    from headgate.ports import Head, Reader
    from headgate.providers.codec import Codec
    from headgate.values import Call, Host, Operation, Schemas, Target

VERSION = "2026-10-21"
SAMPLING_VERSION = "2023-06-01"  # the last one that knows temperature, top_p and top_k
_SAMPLING = frozenset({"temperature", "top_p", "top_k"})
_encode = msgspec.json.encode


def credentials(host: Host) -> dict[str, str]:
    """Return the headers that say who asks."""
    return {"x-api-key": host.api_key} if host.api_key else {}


@lru_cache(maxsize=1024)
def versioned(
    headers: tuple[tuple[str, str], ...], version: str, betas: str = ""
) -> tuple[tuple[str, str], ...]:
    """Return headers with a version and betas, the same object each time; the configuration's own stay."""
    own = {name for name, _ in headers}
    more = {"anthropic-version": version, "anthropic-beta": betas}
    return (*headers, *((name, value) for name, value in more.items() if value and name not in own))


def keeps_schema(call: Call, target: Target) -> Schemas:
    """Return what Claude does for the JSON that an answer shall be.

    Newer models keep to a schema by themselves, others get it as the only tool, whose arguments they need
    not keep to. JSON without a schema has no word in this API.
    """
    return kept(call, target, keeps=True)


def kept(call: Call, target: Target, *, keeps: bool) -> Schemas:
    """Return the same of a host that takes schemas which it keeps to, or takes none of them."""
    if isinstance(call.face, MessagesFace):  # it asked in Claude's own words
        return "enforced"
    schema = shape_of(call).schema
    if schema is None:
        return "none"
    return "enforced" if keeps and is_native(schema, target) else "tried"


class MessagesCodec:
    """Speak `POST /v1/messages` for chat."""

    __slots__ = ()

    def keeps(self, target: Target) -> bool:
        """Say whether a host takes schemas that it keeps to."""
        del target
        return True

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request.

        Raises:
            CallerError: what this model cannot do.
            UpstreamError: there is no token to ask with.
        """
        face = call.face
        if not isinstance(face, MessagesFace):
            body, samples = build(call, target, keeps=self.keeps(target))
            return self._request(call, target, body, (SAMPLING_VERSION if samples else VERSION, ""))
        samples = not _SAMPLING.isdisjoint(face.given)
        version = face.version or (SAMPLING_VERSION if samples else VERSION)
        return self._request(call, target, faithful_body(face.given, call, target), (version, face.betas))

    def _request(self, call: Call, target: Target, body: dict[str, Any], known: tuple[str, str]) -> Request:
        """Return the request of a body; `known` are the version that it is of, and betas."""
        headers = versioned(target.headers, *known)
        return Request("POST", target.base_path + "/messages", headers, _encode(body), call.request_id)

    def reader(self, call: Call, target: Target) -> Reader:
        """Return a reader for a stream or for a whole message."""
        if isinstance(call.face, MessagesFace):
            return FaithfulReader(call, target)
        shape = shape_of(call)
        native = shape.schema is None or (self.keeps(target) and is_native(shape.schema, target))
        stream = StreamSource() if call.stream else None
        return TranslatedReader(call, MessageSource(), stream, "" if native else shape.tool())

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means for the caller."""
        return mistake(head, body)


CODECS: Mapping[Operation, Codec] = {"chat": MessagesCodec()}
