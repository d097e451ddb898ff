"""`GET /v1/realtime`: the handshake of a WebSocket, by which a session begins.

Browsers cannot set headers there, so OpenAI also takes the key as a subprotocol beside `realtime`:
`openai-insecure-api-key.KEY` (its guide "Realtime API with WebSockets").
"""

from __future__ import annotations

import base64
import binascii
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import parse_qs

from headgate.channels import SocketLimits, accept_key
from headgate.errors import CallerError, GatewayError, Unavailable
from headgate.http.answers import whose
from headgate.http.errors import VERSION
from headgate.identity.standing import allow
from headgate.pipeline import refuse_loop
from headgate.ports import Sink
from headgate.values import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.channels import Channel
    from headgate.http.dataplane import Caller, Service
    from headgate.http.incoming import Incoming, RequestHead
    from headgate.ports import Headers

_KEY_BYTES = 16
_PROTOCOL = b"realtime"
_IN_PROTOCOL = b"openai-insecure-api-key."


class SwitchingSink(Sink, Protocol):
    """The sink of a connection that can go on as a WebSocket."""

    def switch(self, headers: Headers, limits: SocketLimits) -> Channel:
        """Answer 101; raises `CallerGone`."""
        ...


class RealtimeRoute:
    """Begin sessions.

    Args:
        service: the process.
        identify: returns who calls.
    """

    __slots__ = ("_identify", "_service", "max_body_bytes", "sockets")

    def __init__(self, service: Service, identify: Callable[[Service, Incoming], Caller]) -> None:
        self._service = service
        self._identify = identify
        self.max_body_bytes = 0
        self.sockets = SocketLimits()

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        """Authenticate, and give the session to who serves it."""
        service, head = self._service, incoming.head
        call = Call(service.ids.next(), "realtime", incoming.received_ns)
        call.stream = True
        try:
            if service.draining:
                raise Unavailable("The gateway is shutting down. Open the session again.")
            caller = self._identify(service, incoming)
            call.principal = caller.principal
            if caller.hop is not None:
                refuse_loop(caller.hop, service.instance)
            _check_handshake(head)
            call.model = _model(head)
            allow(caller.principal, "realtime", call.model)
        except GatewayError as error:
            service.refused("realtime", error)
            service.pipeline.refuse(call, error, sink)
            return
        call.sim = caller.sim
        accept = partial(_accept, call, head, cast("SwitchingSink", sink), self.sockets)
        service.start_session(call, sink, accept)


def _accept(call: Call, head: RequestHead, sink: SwitchingSink, limits: SocketLimits) -> Channel:
    """Answer the handshake."""
    principal = call.principal
    assert principal is not None
    key = (head.header(b"sec-websocket-key") or b"").decode("latin-1").strip()
    rows = [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", accept_key(key).encode()),
        VERSION,
        (b"x-request-id", call.request_id.encode()),
        *whose(principal),
    ]
    if _PROTOCOL in offered(head):
        rows.append((b"sec-websocket-protocol", _PROTOCOL))
    return sink.switch(rows, limits)


def offered(head: RequestHead) -> list[bytes]:
    """Return the subprotocols that a client offers."""
    names = [value for name, value in head.headers if name == b"sec-websocket-protocol"]
    return [part.strip() for part in b",".join(names).split(b",") if part.strip()]


def key_offered(head: RequestHead) -> bytes | None:
    """Return the key that a client of a WebSocket gives as a subprotocol; None where it gives none.

    Raises:
        CallerError: it gives two.
    """
    keys = {
        name.removeprefix(_IN_PROTOCOL)
        for name in offered(head)
        if name.startswith(_IN_PROTOCOL) and name != _IN_PROTOCOL
    }
    if len(keys) > 1:
        raise CallerError("This request offers two different API keys as subprotocols. Send one.")
    return keys.pop() if keys else None


def _check_handshake(head: RequestHead) -> None:
    """Hold a request against RFC 6455, 4.2.1.

    Raises:
        CallerError: it asks for no WebSocket, or in another version.
    """
    if not head.switches:
        raise CallerError(
            "This route serves WebSockets. Open one at ws(s)://.../v1/realtime?model=..., as the SDKs do by "
            "`client.realtime.connect(model=...)`.",
            code="websocket_required",
            headers={"upgrade": "websocket"},
        )
    version = head.header(b"sec-websocket-version") or b""
    if version.strip() != b"13":
        raise CallerError(
            f"The WebSocket version {version.decode('latin-1')[:20]!r} is not served. Use 13.",
            headers={"sec-websocket-version": "13"},
        )
    try:
        key = base64.b64decode(head.header(b"sec-websocket-key") or b"", validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        raise CallerError("The Sec-WebSocket-Key is not 16 bytes in base64.")


def _model(head: RequestHead) -> str:
    """Return the model that a session is for.

    Raises:
        CallerError: there is none, or a kind of session that is not served.
    """
    try:
        query = parse_qs(head.query.decode("ascii"), max_num_fields=20)
    except ValueError:
        raise CallerError("The query of the URL cannot be read.") from None
    if query.get("intent", ["conversation"])[-1] == "transcription":
        raise CallerError(
            "A session that only transcribes is not served here. Send the audio to POST "
            "/v1/audio/transcriptions.",
            param="intent",
            code="invalid_value",
        )
    if "call_id" in query:
        raise CallerError("Calls over SIP and WebRTC are not served here.", param="call_id")
    models = query.get("model", [])
    if len(models) != 1 or not models[0]:
        raise CallerError(
            "Missing required parameter: 'model'. Open wss://.../v1/realtime?model=gpt-realtime.",
            param="model",
            code="missing_required_parameter",
        )
    return models[0]
