"""What the conditions of targets ask of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.admission.bounds import rough_input
from headgate.routing.conditions import Described
from headgate.wire.messages import kinds_of_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.values import Call, Holding

_NOTHING: Final = (b"null", b"[]")
_SPOKEN: Final = ("transcriptions", "translations")
_PARTS: Final[dict[str, Holding]] = {"image_url": "images", "input_audio": "audio", "file": "files"}
_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode


def described(call: Call) -> Described:
    """Return what conditions ask of a call."""
    principal = call.principal
    assert principal is not None
    return Described(
        call.model,
        principal.name,
        principal.project_id,
        principal.tier,
        _metadata(call),
        rough_input(call),
        frozenset(_holdings(call)),
        call.stream,
    )


def _metadata(call: Call) -> dict[str, str]:
    raw = bytes(call.members.get("metadata", b"null"))
    return _decode_metadata(raw) if raw != b"null" else {}


def _holdings(call: Call) -> Iterator[Holding]:
    members = call.members
    if call.files is not None:
        yield "audio" if call.operation in _SPOKEN else "images"
    if call.media is not None and "messages" in members:
        kinds = kinds_of_parts(bytes(members["messages"]))
        yield from (holding for kind, holding in _PARTS.items() if kind in kinds)
    if any(bytes(members.get(name, b"[]")) not in _NOTHING for name in ("tools", "functions")):
        yield "tools"
    if call.shape is not None:
        yield "schema"
