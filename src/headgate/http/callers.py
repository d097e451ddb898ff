"""Who calls: what a head says of it, worked out once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from headgate.errors import AuthenticationFailed, CallerError
from headgate.http.patience import Patience, deadline, patience
from headgate.identity.keys import Keyring
from headgate.identity.loans import PREFIX
from headgate.identity.networks import client_address, inside
from headgate.identity.standing import allow
from headgate.routing.demands import HEADER, read_demand
from headgate.values import Demand, Principal

if TYPE_CHECKING:
    from headgate.http.dataplane import Service
    from headgate.http.incoming import Incoming, RequestHead
    from headgate.ports import Sink
    from headgate.values import Call

_LONGEST_OWN_ID: Final = 512
_DEMAND: Final = HEADER.encode()
_IN_PROTOCOL = b"openai-insecure-api-key."


class Wish(NamedTuple):
    """That the answer is recorded, as the headers say it. None: not said."""

    key: bytes | None  # Idempotency-Key
    resume: bytes | None  # x-headgate-resume


class Caller(msgspec.Struct, frozen=True):
    """What a head says of who calls, as one ring of keys sees it."""

    keyring: Keyring
    principal: Principal
    hop: bytes | None
    sim: str  # directives for the simulator
    bounded: bool = False  # its key may not use all models or all endpoints
    own_id: str = ""  # what it calls its request
    demand: Demand | None = None  # of targets
    session: bytes = b""  # JSON: the settings of the session that its lent key is for
    patience: Patience | None = None  # how long it waits
    wish: Wish | None = None  # that its answers are recorded
    plain: bool = True  # it says nothing besides, and its key may use all from anywhere


def identify(service: Service, incoming: Incoming) -> Caller:
    """Return who calls; found once for each head and ring, and again each time where a key expires.

    Raises:
        AuthenticationFailed: no key, one that is not valid here, or not from this address.
        CallerError: two different keys in one request, or an own id that is none.
    """
    head, keyring = incoming.head, service.keyring
    known = head.memo
    if known is None or known.keyring is not keyring:
        known = _identify(service, head)
    if known.principal.networks:
        _check_address(service, incoming, known.principal.networks)
    return known


def heed(service: Service, caller: Caller, call: Call, sink: Sink) -> None:
    """Do for a call what its head says besides, and what its key may not use.

    Raises:
        GatewayError: its key may not use this.
    """
    if caller.own_id:
        service.named(call, caller.own_id)
    if caller.bounded:
        allow(caller.principal, call.operation, call.model)
    call.sim, call.demand = caller.sim, caller.demand
    if caller.patience is not None and (caller.wish is None or caller.patience.whole):
        call.deadline = deadline(caller.patience, call.received_ns, service.clock.monotonic(), sink)


def _check_address(service: Service, incoming: Incoming, networks: tuple[str, ...]) -> None:
    peer = incoming.peer[0] if incoming.peer is not None else ""
    address = client_address(peer, incoming.head.headers, service.trusted_proxies)
    if not inside(address, networks):
        whence = f"Your IP address {address}" if address else "The address that your request comes from"
        raise AuthenticationFailed(
            f"IP not authorized. {whence} is not on the allow-list of this API key. Call from another "
            "address, use another key, or change this one: `headgate keys change NAME --networks ...`.",
            code="ip_not_authorized",
        )


def _identify(service: Service, head: RequestHead) -> Caller:
    keyring = service.keyring
    token, session = presented(keyring, head), b""
    if head.switches and token is not None and token.startswith(PREFIX):
        principal, session = keyring.borrowed(token, service.clock.wall())
    else:
        principal = keyring.authenticate(token, service.clock.wall())
    sim = head.header(b"x-headgate-sim") or b""
    bounded = bool(principal.models or principal.endpoints)
    hop = head.header(b"x-headgate-hop")
    demanded = head.header(_DEMAND)
    said = (
        sim.decode("latin-1"),
        bounded,
        _own_id(head),
        read_demand(demanded.decode("utf-8", "replace")) if demanded is not None else None,
        session,
        patience(head),
        _wish(head),
    )
    plain = hop is None and not (principal.networks or any(said))
    caller = Caller(keyring, principal, hop, *said, plain=plain)
    if not (principal.expires_at or session):
        head.memo = caller
    return caller


def _wish(head: RequestHead) -> Wish | None:
    """Return what a head says of recording; None where it says nothing."""
    wish = Wish(head.header(b"idempotency-key"), head.header(b"x-headgate-resume"))
    return wish if wish != (None, None) else None


def _own_id(head: RequestHead) -> str:
    """Return `X-Client-Request-Id`; its limits are OpenAI's ("Debugging requests").

    Raises:
        CallerError: it is too long, or not ASCII.
    """
    given = head.header(b"x-client-request-id") or b""
    if len(given) > _LONGEST_OWN_ID or not given.isascii():
        raise CallerError(
            f"Invalid 'X-Client-Request-Id' header: expected at most {_LONGEST_OWN_ID} ASCII characters."
        )
    return given.decode("ascii")


def presented(keyring: Keyring, head: RequestHead) -> bytes | None:
    """Return the key that a head holds; None where there is none.

    Raises:
        CallerError: it holds two.
    """
    own = head.header(b"x-api-key")
    if head.switches:
        own = key_offered(head) or own
    return keyring.extract(head.header(b"authorization"), head.header(b"api-key"), own)


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
