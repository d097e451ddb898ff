"""What the handlers work with, and how one request goes through them: once, where it says so."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from headgate.errors import AuthenticationFailed, CallerError, Conflict, GatewayError, RateLimited
from headgate.identity.networks import neighbourhood
from headgate.ops.accounts import show_account

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headgate.admin.table import Asked, Route
    from headgate.money.terms import PaymentSettings
    from headgate.ops.actors import Actor
    from headgate.ops.desk import Desk
    from headgate.ops.usage import Reports
    from headgate.ports import Mailer
    from headgate.records import Reply
    from headgate.values import MonotonicNs, WallMicros

_HOUR_NS: Final = 3_600_000_000_000
_encode = msgspec.json.Encoder(decimal_format="number").encode


class Replies(Protocol):
    """Answers to writes that named an idempotency key, for 24 hours."""

    def claim(self, actor: str, key: str, request: bytes, now: WallMicros) -> Reply | None:
        """Store that a write begins; return what there was already. Atomic."""
        ...

    def keep(self, actor: str, key: str, status: int, body: bytes) -> None:
        """Store how a claimed write ended."""
        ...

    def forget(self, actor: str, key: str) -> None:
        """Take a claim back: nothing was done."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """How strangers become customers, and their payments are reported."""

    payments: PaymentSettings
    mailer: Mailer
    signup_link: str  # in the mail to who signs up; `{token}` stands for the token


class Pace:
    """How many requests without a key come from one address: so many in each hour, then no more."""

    def __init__(self, most: int = 20) -> None:
        self._most = most
        self._lock = Lock()
        self._hour = 0
        self._counts: dict[str, int] = {}

    def pass_one(self, address: str, now: MonotonicNs) -> None:
        """Count a request.

        Raises:
            RateLimited: it is one too many.
        """
        with self._lock:
            if now >= self._hour + _HOUR_NS:
                self._hour, self._counts = now, {}
            near = neighbourhood(address)
            count = self._counts[near] = self._counts.get(near, 0) + 1
            rest_s = (self._hour + _HOUR_NS - now) / 1e9
        if count > self._most:
            raise RateLimited(
                "Too many requests of this kind came from your address. Try again later.",
                kind="requests",
                retry_after_s=rest_s,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """The parts of a process that the handlers use."""

    desk: Desk
    replies: Replies
    reports: Reports
    trade: Trade
    pace: Pace
    keks: Sequence[bytes] = ()  # key encryption keys of stored secrets, the present one first


def organization(office: Office, actor: Actor, headers: Mapping[str, str]) -> str:
    """Return the account that `OpenAI-Organization` names, else the actor's own; empty: all of the gateway.

    Raises:
        AuthenticationFailed: it is not there, or not the actor's.
    """
    named = headers.get("openai-organization", "")
    if not named or named == actor.account:
        return actor.account
    try:
        return show_account(actor, office.desk, named).id
    except GatewayError as fault:
        raise AuthenticationFailed(
            "OpenAI-Organization should match organization for API key.", code="mismatched_organization"
        ) from fault


class Answer(msgspec.Struct, frozen=True):
    """What goes back: a status and the bytes of a JSON body."""

    status: int
    body: bytes
    replayed: bool = False


def serve(office: Office, route: Route, asked: Asked, idempotency_key: str | None) -> Answer:
    """Run a route's handler; with an idempotency key, once.

    Raises:
        GatewayError: the request is refused; nothing was done.
    """
    if idempotency_key is None:
        return Answer(route.status, _encode(_handled(office, route, asked)))
    if (
        not 1 <= len(idempotency_key) <= 255
        or not idempotency_key.isascii()
        or not idempotency_key.isprintable()
    ):
        raise CallerError(
            "Idempotency-Key has 1 to 255 printable ASCII characters.",
            param="Idempotency-Key",
            code="invalid_value",
        )
    actor, replies = asked.actor.id, office.replies
    request = sha256(b"\n".join([route.name.encode(), _encode(dict(asked.path)), asked.raw])).digest()
    known = replies.claim(actor, idempotency_key, request, office.desk.clock.wall())
    if known is not None:
        return _replay(known, request)
    try:
        answer = _handled(office, route, asked)
    except BaseException:
        replies.forget(actor, idempotency_key)  # so that it can be sent again, corrected
        raise
    replies.keep(actor, idempotency_key, route.status, _without_secret(route, answer))
    return Answer(route.status, _encode(answer))


def _handled(office: Office, route: Route, asked: Asked) -> msgspec.Struct:
    """Run a route's handler; a write that is refused leaves a row in the audit, however early that was."""
    try:
        return route.handle(office, asked)
    except GatewayError as error:
        if route.repeatable:
            office.desk.refused(asked.actor, f"request.{route.name}", error)
        raise


def _replay(known: Reply, request: bytes) -> Answer:
    if known.request != request:
        raise Conflict(
            "This Idempotency-Key was sent with another request. Use a new one for a new request.",
            code="idempotency_key_reused",
        )
    if not known.status:
        raise Conflict(
            "The first request with this Idempotency-Key is still being served. Try again in a moment.",
            code="idempotency_key_in_use",
        )
    return Answer(known.status, known.body, replayed=True)


def _without_secret(route: Route, answer: msgspec.Struct) -> bytes:
    """Return the answer as it may be stored: what is shown once is not in it."""
    if not route.shown_once:
        return _encode(answer)
    kept = msgspec.to_builtins(answer)
    kept[route.shown_once] = "" if isinstance(kept[route.shown_once], str) else None
    return _encode(kept)
