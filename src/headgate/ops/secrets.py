"""Stored keys of providers: put in, listed, rewrapped, removed, and never given out."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.errors import CallerError, Conflict
from headgate.ops.actors import Place, absent, authorise
from headgate.ops.desk import Page, PageOrder
from headgate.ops.words import check_name
from headgate.records import SecretRecord
from headgate.transport.egress import parse_origin
from headgate.vaults.envelope import Sealed, SealError, Slip, rewrap, seal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.ops.actors import Actor
    from headgate.ops.desk import Desk

_MAX_VALUE: Final = 16_384
_ROW_BITS: Final = 53
_GATEWAY: Final = Place()


class SecretOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider's key that somebody wants to store."""

    name: str  # the configuration names it `stored:NAME`
    value: str
    host: str  # the origin that it is for, https://api.example.com: at another one it is cleared

    def __repr__(self) -> str:
        """Show it without the secret."""
        return f"SecretOrder(name={self.name!r}, host={self.host!r})"


class StoredSecret(msgspec.Struct, frozen=True, kw_only=True):
    """What people see of a stored secret."""

    id: str
    host: str
    version: int
    created_at: int


def store_secret(actor: Actor, desk: Desk, keks: Sequence[bytes], order: SecretOrder) -> StoredSecret:
    """Seal a provider's key in the database, in place of an earlier one of its name.

    Raises:
        PermissionRefused: the actor may not.
        CallerError: the order cannot be filled; `param` names the member.
        Conflict: there is no key encryption key here.
    """
    with desk.writing(actor, "secret.stored") as deed:
        deed.allow("gateway.secrets", _GATEWAY)
        if not keks:
            raise Conflict(
                "There is no key encryption key: set HEADGATE_KEK. `headgate secrets new-kek` prints one."
            )
        name, value = check_name(order.name), order.value.strip()
        if not value or len(value) > _MAX_VALUE or not value.isprintable():
            raise CallerError(f"value has 1 to {_MAX_VALUE} printable characters.", param="value")
        before = deed.register.get(SecretRecord, id=name)
        slip = Slip(
            row=before.row if before is not None else secrets.randbits(_ROW_BITS),
            name=name,
            host=_origin(order.host),
            version=before.version + 1 if before is not None else 1,
        )
        box = seal(keks[0], slip, value)
        after = _record(slip, box, deed.at)
        return _shown(deed.put(before, after) if before is not None else deed.add(after))


def list_secrets(actor: Actor, desk: Desk, page: PageOrder) -> Page:
    """Return a page of what is stored, as `StoredSecret`s: without the secrets."""
    with desk.reading() as register:
        authorise(actor, "gateway.secrets", _GATEWAY)
        found = desk.page(register, SecretRecord, page)
        return Page([_shown(record) for record in found.data], found.has_more)


def remove_secret(actor: Actor, desk: Desk, name: str) -> StoredSecret:
    """Remove a stored secret.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is none.
    """
    with desk.writing(actor, "secret.removed", name) as deed:
        deed.allow("gateway.secrets", _GATEWAY)
        found = deed.register.get(SecretRecord, id=name)
        if found is None:
            raise absent("secret", name)
        return _shown(deed.remove(found))


def rotate_kek(actor: Actor, desk: Desk, keks: Sequence[bytes], new: bytes) -> int:
    """Wrap every stored secret by a new KEK, in one transaction; return how many there are.

    Servers that have both keys go on meanwhile.

    Raises:
        PermissionRefused: the actor may not.
        Conflict: one of them cannot be opened with the keys that are given; nothing was changed.
    """
    with desk.writing(actor, "secret.rewrapped", "all") as deed:
        deed.allow("gateway.secrets", _GATEWAY)
        found = deed.register.all(SecretRecord)
        for record in found:
            try:
                box = rewrap([new, *keks], new, slip_of(record), sealed_of(record))
            except SealError as fault:
                raise Conflict(str(fault)) from fault
            deed.register.put(_record(slip_of(record), box, record.created_at))
        deed.detail = {"count": len(found)}
        deed.register.changed("secret", "all", deed.at)
        return len(found)


def slip_of(record: SecretRecord) -> Slip:
    """Return where a record's secret stands."""
    return Slip(record.row, record.id, record.host, record.version)


def sealed_of(record: SecretRecord) -> Sealed:
    """Return a record's sealed secret."""
    return Sealed(record.wrapped, record.nonce, record.sealed)


def _record(slip: Slip, box: Sealed, at: int) -> SecretRecord:
    return SecretRecord(
        id=slip.name,
        row=slip.row,
        host=slip.host,
        version=slip.version,
        wrapped=box.wrapped,
        nonce=box.nonce,
        sealed=box.sealed,
        created_at=at,
    )


def _shown(record: SecretRecord) -> StoredSecret:
    return StoredSecret(id=record.id, host=record.host, version=record.version, created_at=record.created_at)


def _origin(url: str) -> str:
    try:
        return parse_origin(url).url
    except ValueError as fault:
        raise CallerError(f"host: {fault}.", param="host") from fault
