"""Read the audit and, in the same way, whatever else is written once and never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.ops.actors import Place, authorise
from headgate.records import AuditRecord

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ops.desk import Desk, Page, PageOrder
    from headgate.records import EventRecord


class Log(NamedTuple):
    """A log of one account, or of all."""

    kind: type[AuditRecord | EventRecord]
    permission: str  # to read an account's
    account: str  # its public id; empty: the actor's own


def list_audit(actor: Actor, desk: Desk, page: PageOrder, account: str = "", /, **where: str) -> Page:
    """Return a page of the audit of an account, as `AuditRecord`s; of LOCAL without one: all of it.

    Args:
        actor: who.
        desk: where.
        page: which part.
        account: its public id; empty: the actor's own.
        where: `actor`, `action`, `kind`, `ref` or `outcome` that the rows have.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is no such account, or not for this actor.
    """
    return log_page(actor, desk, page, Log(AuditRecord, "audit.read", account), where)


def log_page(actor: Actor, desk: Desk, page: PageOrder, log: Log, where: dict[str, str]) -> Page:
    """Return a page of a log; what it raises is said at `list_audit`."""
    account = log.account or actor.account
    with desk.reading() as register:
        if not account:
            authorise(actor, "gateway.read", Place())
            return desk.page(register, log.kind, page, **where)
        authorise(actor, log.permission, Place(account), "account", account)
        return desk.page(register, log.kind, page, account=account, **where)
