"""A whole message that came in place of a stream, as the events that say the same.

stream := message_start block* message_delta message_stop. Texts, thoughts and inputs of tools become deltas
of their blocks; of any other block clients take the beginning for the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.providers.anthropic.outbound import sse, usage_object
from headgate.values import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LAST: Final = (
    "stop_reason",
    "stop_sequence",
    "stop_details",
    "container",
)  # of a message: in `message_delta`
_encode = msgspec.json.encode


def events_of(body: bytes) -> bytes:
    """Return the events of a stream that says what a message says.

    Args:
        body: a message; its blocks are objects.
    """
    message: dict[str, Any] = msgspec.json.decode(body)
    blocks = message.get("content") or ()
    usage = message.get("usage") or usage_object(Usage())
    ended = {name: message[name] for name in _LAST if name in message}
    begun: dict[str, Any] = {
        **message,
        "content": [],
        **dict.fromkeys(ended),
        "usage": {**usage, "output_tokens": 0},
    }
    out = [sse("message_start", message=begun)]
    for index, block in enumerate(blocks):
        opened, deltas = _pieces(block)
        out.append(sse("content_block_start", index=index, content_block=opened))
        out += [sse("content_block_delta", index=index, delta=delta) for delta in deltas]
        out.append(sse("content_block_stop", index=index))
    out.append(sse("message_delta", delta=ended, usage=usage))
    return b"".join([*out, sse("message_stop")])


def _pieces(block: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """Return a block as it begins, and the deltas that complete it."""
    match block:
        case {"type": "text", "text": str(text)}:
            given = [{"type": "citations_delta", "citation": each} for each in block.get("citations") or ()]
            opened = {name: value for name, value in block.items() if name != "citations"}
            return {**opened, "text": ""}, [{"type": "text_delta", "text": text}, *given]
        case {"type": "thinking", "thinking": str(text)}:
            return {**block, "thinking": "", "signature": ""}, list(_thought(text, block.get("signature")))
        case {"type": str(kind), "input": dict(given)} if kind.endswith("tool_use"):
            delta = {"type": "input_json_delta", "partial_json": _encode(given).decode()}
            return {**block, "input": {}}, [delta] if given else []
    return block, []


def _thought(text: str, signature: object) -> Iterator[dict[str, Any]]:
    yield {"type": "thinking_delta", "thinking": text}
    if isinstance(signature, str):
        yield {"type": "signature_delta", "signature": signature}
