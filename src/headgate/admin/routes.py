"""The table of the whole admin API."""

from __future__ import annotations

from headgate.admin import budgets, keys, people
from headgate.admin.table import Table


def table() -> Table:
    """Return every route of the API.

    Raises:
        ValueError: one declares no permission, or stands twice; the gateway does not start.
    """
    return Table(people.ROUTES, keys.ROUTES, budgets.ROUTES)
