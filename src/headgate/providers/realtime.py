"""The handshake of OpenAI's Realtime API. What follows it is events, which pass as they came."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from headgate.ports import Request
from headgate.providers.refusals import refusal

if TYPE_CHECKING:
    from headgate.errors import UpstreamError
    from headgate.ports import Head
    from headgate.values import Call, Target

_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class RealtimeCodec:
    """Ask for a session. Implements `Codec`."""

    __slots__ = ()

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request that opens the WebSocket."""
        path = f"{target.base_path}/realtime?model={_quoted(target.model.name)}"
        headers = target.headers
        if call.sim and target.simulated:
            headers = (*headers, ("x-headgate-sim", call.sim))
        return Request("GET", path, headers, b"", call.request_id)

    def reader(self, call: Call, _target: Target) -> NoReturn:
        """Refuse: a session is not one answer. `wire.realtime` reads its events."""
        raise NotImplementedError(call.operation)

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refused handshake means for the caller."""
        return refusal(head, body)


def _quoted(name: str) -> str:
    return "".join(
        char if char in _PLAIN else "".join(f"%{byte:02X}" for byte in char.encode()) for char in name
    )
