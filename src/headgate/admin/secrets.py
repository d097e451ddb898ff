"""Stored keys of providers over HTTP: written, listed and removed, never read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from headgate.admin.table import Deleted, Listed, Route, listed
from headgate.ops import secrets
from headgate.ops.desk import PageOrder

if TYPE_CHECKING:
    from headgate.admin.office import Office
    from headgate.admin.table import Asked

ROOT: Final = "/admin/v1/secrets"


class SecretWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider's key that somebody wants to store."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]  # the configuration names it `stored:NAME`
    value: Annotated[str, Meta(min_length=1, max_length=16_384)]
    host: Annotated[str, Meta(min_length=1, max_length=300)]  # the origin that it is for

    def __repr__(self) -> str:
        """Show it without the secret."""
        return f"SecretWish(name={self.name!r})"


def _list(office: Office, asked: Asked) -> Listed[secrets.StoredSecret]:
    return listed(secrets.list_secrets(asked.actor, office.desk, asked.query))


def _store(office: Office, asked: Asked) -> secrets.StoredSecret:
    body = asked.body
    order = secrets.SecretOrder(name=body.name, value=body.value, host=body.host)
    return secrets.store_secret(asked.actor, office.desk, office.keks, order)


def _remove(office: Office, asked: Asked) -> Deleted:
    return Deleted(id=secrets.remove_secret(asked.actor, office.desk, asked.path["name"]).id)


ROUTES: Final = (
    Route(
        method="GET", path=ROOT, permission="gateway.secrets", summary="List stored keys of providers",
        handle=_list, answer=Listed[secrets.StoredSecret], query=PageOrder,
    ),
    Route(
        method="POST", path=ROOT, permission="gateway.secrets",
        summary="Store a provider's key, in place of an earlier one of its name; it is never shown again",
        handle=_store, answer=secrets.StoredSecret, body=SecretWish, status=201,
    ),
    Route(
        method="DELETE", path=ROOT + "/{name}", permission="gateway.secrets",
        summary="Remove a stored key of a provider", handle=_remove, answer=Deleted,
    ),
)  # fmt: skip
