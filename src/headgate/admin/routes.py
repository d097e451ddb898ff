"""The table of the whole admin API."""

from __future__ import annotations

from headgate.admin import budgets, credit, events, keys, limits, people, secrets, signups, tiers, usage
from headgate.admin.organization import (
    keys as organization_keys,
    limits as organization_limits,
    projects,
    usage as organization_usage,
    users,
)
from headgate.admin.table import Table


def table() -> Table:
    """Return every route of the API.

    Raises:
        ValueError: one declares no permission, or stands twice; the gateway does not start.
    """
    parts = (people, keys, budgets, limits, events, usage, credit, tiers, signups, secrets)
    own = [part.ROUTES for part in parts]
    theirs = (projects, users, organization_keys, organization_limits, organization_usage)
    openai = [part.ROUTES for part in theirs]
    return Table(*own, *openai)
