"""Read the events: thresholds of budgets, old keys, promotions, expired grants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.ops.audit import Log, log_page
from headgate.records import EventRecord

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ops.desk import Desk, Page, PageOrder


def list_events(actor: Actor, desk: Desk, page: PageOrder, account: str = "", **where: str) -> Page:
    """Return a page of the events of an account, as `EventRecord`s; of LOCAL without one: all of them.

    Args:
        actor: who.
        desk: where.
        page: which part.
        account: its public id; empty: the actor's own.
        where: `kind` or `ref` that they have.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is no such account, or not for this actor.
    """
    return log_page(actor, desk, page, Log(EventRecord, "usage.read", account), where)
