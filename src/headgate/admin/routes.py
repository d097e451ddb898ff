"""The table of the whole admin API."""

from __future__ import annotations

from headgate.admin import budgets, credit, keys, people, signups, tiers, usage
from headgate.admin.organization import (
    keys as organization_keys,
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
    parts = (people, keys, budgets, usage, credit, tiers, signups)
    own = [part.ROUTES for part in parts]
    openai = (projects.ROUTES, users.ROUTES, organization_keys.ROUTES, organization_usage.ROUTES)
    return Table(*own, *openai)
