"""Which part of a list a request asks for, as OpenAI's lists of files are asked for."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import parse_qs

from headgate.errors import CallerError
from headgate.wire.checks import integer, whole

_MOST_LISTED: Final = 10_000


class Page(NamedTuple):
    """Which part of a list is wanted."""

    purpose: str
    after: str
    limit: int
    newest: bool


def read_page(query: bytes) -> Page:
    """Return which part of a list a query asks for. Raises `CallerError`."""
    given = {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}
    order = given.get("order", "desc")
    if order not in {"asc", "desc"}:
        raise CallerError(
            f"Invalid value: '{order[:40]}'. Supported values are: 'asc' and 'desc'.",
            param="order",
            code="invalid_value",
        )
    limit = _limit(given.get("limit", str(_MOST_LISTED)))
    return Page(given.get("purpose", ""), given.get("after", ""), limit, order == "desc")


def _limit(text: str) -> int:
    limit = whole(text)
    if limit is None:
        raise CallerError("Invalid 'limit': expected an integer.", param="limit", code="invalid_type")
    integer(1, _MOST_LISTED)("limit", limit)
    return limit
