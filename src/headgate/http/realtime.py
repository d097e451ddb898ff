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

import msgspec

from headgate.channels import SocketLimits, accept_key
from headgate.errors import CallerError, GatewayError, PermissionRefused, Unavailable
from headgate.http.answers import refuse, whose
from headgate.http.callers import identify, offered, presented
from headgate.http.errors import VERSION
from headgate.http.guard import guarded
from headgate.http.recorded import recorded
from headgate.identity.standing import allow
from headgate.pipeline import refuse_loop
from headgate.ports import Sink
from headgate.values import Call
from headgate.wire.answers import NOT_JSON

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from headgate.channels import Channel
    from headgate.http.dataplane import Service
    from headgate.http.incoming import Incoming, RequestHead
    from headgate.ports import Headers
    from headgate.values import Principal

_KEY_BYTES = 16
_JSON = (b"content-type", b"application/json")
_US = 1_000_000
_SHORTEST_S, _USUAL_S, _LONGEST_S = 10, 600, 7_200  # of a lent key, as OpenAI has them
_LARGEST_SECRET = 6_000  # characters: it travels in a header
_PROTOCOL = b"realtime"


class SwitchingSink(Sink, Protocol):
    """The sink of a connection that can go on as a WebSocket."""

    def switch(self, headers: Headers, limits: SocketLimits) -> Channel:
        """Answer 101; raises `CallerGone`."""
        ...


class RealtimeRoute:
    """Begin sessions.

    Args:
        service: the process.
    """

    __slots__ = ("_service", "max_body_bytes", "sockets")

    def __init__(self, service: Service) -> None:
        self._service = service
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
            caller = identify(service, incoming)
            call.principal = caller.principal
            if caller.hop is not None:
                refuse_loop(caller.hop, service.instance)
            _check_handshake(head)
            call.model = _model(head, caller.session)
            if caller.session:
                call.members["session"] = msgspec.Raw(caller.session)
            allow(caller.principal, "realtime", call.model)
        except GatewayError as error:
            service.refused("realtime", error)
            service.pipeline.refuse(call, error, sink)
            return
        call.sim, call.demand = caller.sim, caller.demand
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


def _model(head: RequestHead, session: bytes) -> str:
    """Return the model that a session is for: with a lent key, the one that it was lent for.

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
    lent = msgspec.json.decode(session, type=_Asked).model if session else None
    if lent is not None and models in ([], [lent]):
        return lent
    if lent is not None:
        raise PermissionRefused(
            f"This client secret is for the model `{lent}`. Open the session with that one.",
            param="model",
            code="model_not_found",
        )
    if len(models) != 1 or not models[0]:
        raise CallerError(
            "Missing required parameter: 'model'. Open wss://.../v1/realtime?model=gpt-realtime.",
            param="model",
            code="missing_required_parameter",
        )
    return models[0]


class _Asked(msgspec.Struct, frozen=True):
    """The settings of a session, as far as they are looked at."""

    type: str = "realtime"
    model: str | None = None


class _Expiry(msgspec.Struct, frozen=True):
    anchor: str = "created_at"
    seconds: int = _USUAL_S


class _Order(msgspec.Struct, frozen=True):
    session: msgspec.Raw
    expires_after: _Expiry | None = None


class SecretRoute:
    """`POST /v1/realtime/client_secrets`: lend a key to a browser, for sessions and for minutes."""

    __slots__ = ("_service", "max_body_bytes")

    def __init__(self, service: Service) -> None:
        self._service = service
        self.max_body_bytes = 256 * 1024

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        """Answer at once, where nobody wants the very same answer again: then nothing is stored."""
        service = self._service
        try:
            caller = identify(service, incoming)
            if caller.wish is not None:
                self._record(incoming, caller.principal, sink)
                return
            body = self._lend(incoming, caller.principal)
        except GatewayError as error:
            service.refused("realtime", error)
            refuse(incoming.request_id, error, sink)
            return
        _send(body, incoming.request_id, caller.principal, sink)

    def _record(self, incoming: Incoming, principal: Principal, sink: Sink) -> None:
        service = self._service
        call = Call(service.ids.next(), "realtime", incoming.received_ns)
        call.principal = principal

        async def lend(to: Sink) -> None:
            _send(self._lend(incoming, principal), call.request_id, principal, to)

        def make(to: Sink) -> Coroutine[None, None, None]:
            return guarded(service, call, to, lend(to))

        service.start_call(recorded(service, call, incoming, sink, make), call)

    def _lend(self, incoming: Incoming, principal: Principal) -> bytes:
        order, asked = _order(incoming.body)
        allow(principal, "realtime", asked.model or "")
        seconds = (order.expires_after or _Expiry()).seconds
        if not _SHORTEST_S <= seconds <= _LONGEST_S:
            raise CallerError(
                f"Invalid 'expires_after.seconds': {seconds}. It must be from {_SHORTEST_S} to {_LONGEST_S}.",
                param="expires_after.seconds",
                code="invalid_value",
            )
        service = self._service
        until = service.clock.wall() // _US + seconds
        token = presented(service.keyring, incoming.head) or b""
        secret = service.keyring.lend(token, until, bytes(order.session))
        if len(secret) > _LARGEST_SECRET:
            raise CallerError(
                "The settings are too long for a client secret, which travels in a header. Send the rest in "
                "a `session.update` when the session is open.",
                param="session",
            )
        settings = msgspec.json.decode(order.session, type=dict[str, object])
        session = {"type": "realtime", "object": "realtime.session", "id": f"sess_{incoming.request_id[4:]}"}
        return msgspec.json.encode({"value": secret, "expires_at": until, "session": {**session, **settings}})


def _send(body: bytes, request_id: str, principal: Principal, sink: Sink) -> None:
    sink.start(200, [_JSON, VERSION, (b"x-request-id", request_id.encode()), *whose(principal)], len(body))
    sink.write(body)
    sink.finish()


def _order(body: bytes) -> tuple[_Order, _Asked]:
    """Return what is asked for: OpenAI's default model where none is named.

    Raises:
        CallerError: it is no such thing.
    """
    try:
        order = msgspec.json.decode(body, type=_Order)
        asked = msgspec.json.decode(order.session, type=_Asked)
    except NOT_JSON as fault:
        raise CallerError(
            f"We could not read your request: {fault}. Send {{'session': {{'model': 'gpt-realtime'}}}}."
        ) from None
    if asked.type != "realtime" or not asked.model:
        raise CallerError(
            "A client secret is for sessions of one model: {'session': {'type': 'realtime', 'model': ...}}.",
            param="session.model" if asked.type == "realtime" else "session.type",
            code="invalid_value",
        )
    return order, asked
