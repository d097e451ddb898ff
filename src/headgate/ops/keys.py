"""Make, list and revoke keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.errors import CallerError, Conflict, NotFound
from headgate.identity.keys import KINDS, Kind, mint_key
from headgate.ops.actors import authorise
from headgate.records import KeyRecord

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ports import AdminStore, Clock

_MAX_NAME = 100
_MAX_LIMIT = 2**31 - 1


class KeyOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The key that somebody wants."""

    name: str
    kind: Kind = "live"
    rpm: int = 0  # requests per minute; 0: no limit
    tpm: int = 0  # tokens per minute; 0: no limit
    concurrency: int = 0  # calls at once; 0: no limit
    expires_in_s: int = 0  # 0: never


class CreatedKey(msgspec.Struct, frozen=True):
    """A new key. `text` is the key itself: shown once, stored nowhere."""

    text: str
    record: KeyRecord


def create_key(actor: Actor, store: AdminStore, pepper: bytes, order: KeyOrder, clock: Clock) -> CreatedKey:
    """Make a key; running servers accept it within a second.

    Raises:
        PermissionRefused: the actor may not.
        CallerError: the order cannot be filled; `param` names the member.
    """
    authorise(actor, "make keys")
    _check(order)
    minted = mint_key(pepper, order.kind)
    now = clock.wall()
    draft = KeyRecord(
        id="",
        name=order.name.strip(),
        kind=order.kind,
        shown=minted.shown,
        project="",
        rpm=order.rpm,
        tpm=order.tpm,
        concurrency=order.concurrency,
        created_at=now,
        expires_at=now + order.expires_in_s * 1_000_000 if order.expires_in_s else 0,
    )
    return CreatedKey(minted.text, store.add_key(draft, minted.digest))


def list_keys(actor: Actor, store: AdminStore) -> list[KeyRecord]:
    """Return every key, revoked ones too, the oldest first."""
    authorise(actor, "list keys")
    return store.list_keys()


def revoke_key(actor: Actor, store: AdminStore, reference: str, clock: Clock) -> KeyRecord:
    """Revoke the key with this id, name, or key text; running servers refuse it within a second.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is none.
        Conflict: it is revoked already, or the reference means several keys.
    """
    authorise(actor, "revoke keys")
    found = _find(store, reference)
    now = clock.wall()
    if found.revoked_at or not store.revoke_key(found.id, now):
        raise Conflict(f"The key {found.id} ({found.name}) has been revoked already.")
    return msgspec.structs.replace(found, revoked_at=now)


def _find(store: AdminStore, reference: str) -> KeyRecord:
    records = store.list_keys()
    found = [record for record in records if reference in {record.id, record.name, record.shown}]
    live = [record for record in found if not record.revoked_at] or found
    if not live:
        raise NotFound(f"There is no key {reference!r}. `headgate keys list` shows the ones there are.")
    if len(live) > 1:
        ids = ", ".join(record.id for record in live)
        raise Conflict(f"{reference!r} means {len(live)} keys: say which by its id: {ids}.")
    return live[0]


def _check(order: KeyOrder) -> None:
    name = order.name.strip()
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        raise CallerError(f"A key's name has 1 to {_MAX_NAME} printable characters.", param="name")
    if order.kind not in KINDS:
        raise CallerError(f"{order.kind!r} is no kind of key: {', '.join(KINDS)}.", param="kind")
    for limit in ("rpm", "tpm", "concurrency", "expires_in_s"):
        if not 0 <= getattr(order, limit) <= _MAX_LIMIT:
            raise CallerError(f"{limit} must be between 0 (none) and {_MAX_LIMIT}.", param=limit)
