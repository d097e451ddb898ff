"""Read the audit: what was done and what was refused, by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.ops.actors import Place, authorise
from headgate.records import AuditRecord

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ops.desk import Desk, Page, PageOrder


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
    account = account or actor.account
    with desk.reading() as register:
        if not account:
            authorise(actor, "gateway.read", Place())
            return desk.page(register, AuditRecord, page, **where)
        authorise(actor, "audit.read", Place(account), "account", account)
        return desk.page(register, AuditRecord, page, account=account, **where)
