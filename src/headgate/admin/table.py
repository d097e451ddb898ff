"""Routes as data: who may do what where, what goes in and what comes out.

The table is the source of three things that must not differ: what is served, what is checked before a
handler runs, and the OpenAPI description. A route without a permission stops the start.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, get_origin

import msgspec

from headgate.identity.roles import PERMISSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from headgate.admin.office import Office
    from headgate.ops.actors import Actor
    from headgate.ops.desk import Page

R = TypeVar("R")
Method = Literal["GET", "POST", "PATCH", "PUT", "DELETE"]
PUBLIC: Final = "public"  # whoever comes: sign-up, and webhooks that carry a signature of their own
OWN: Final = "own"  # any admin key, about itself
_PARAMETER: Final = re.compile(r"{(\w+)}")


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No body, or no query."""


class Listed(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """A page of a list, as OpenAI's lists."""

    object: Literal["list"] = "list"
    data: list[R]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """What has been removed."""

    id: str
    deleted: Literal[True] = True


@cache
def lists_of(kind: type[msgspec.Struct]) -> frozenset[str]:
    """Return the names of a query that are lists."""
    members = msgspec.structs.fields(kind)
    return frozenset(member.name for member in members if get_origin(member.type) in {list, tuple})


def listed(page: Page, shown: Callable[[Any], msgspec.Struct] | None = None) -> Listed[Any]:
    """Return a page as it is sent, its rows as `shown` makes them."""
    return Listed(
        data=list(page.data) if shown is None else [shown(row) for row in page.data],
        first_id=page.first_id or None,
        last_id=page.last_id or None,
        has_more=page.has_more,
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, checked for its shape."""

    actor: Actor
    path: Mapping[str, str]
    body: Any = None
    query: Any = None
    raw: bytes = b""  # the body as it came, for signatures
    headers: Mapping[str, str] = field(default_factory=dict)
    address: str = ""  # of who asks
    organization: str = ""  # the account that an OpenAI client means; empty: the actor's own, or all


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation of the API.

    `handle` runs in a thread. `permission` is what the ops function behind it asks for, on the object at
    hand; the matrix in the tests holds the two against each other.
    """

    method: Method
    path: str
    permission: str
    summary: str
    handle: Callable[[Office, Asked], msgspec.Struct]
    answer: Any  # the type of what `handle` returns
    body: type[msgspec.Struct] = Nothing
    query: type[msgspec.Struct] = Nothing
    status: int = 200
    shown_once: str = ""  # the member of the answer that is never stored for a replay
    raw: bool = False  # the body is not JSON of ours: the handler reads `Asked.raw`

    def __post_init__(self) -> None:
        """Refuse a route that does not say who may use it.

        Raises:
            ValueError: its permission is none; the gateway does not start.
        """
        if self.permission not in PERMISSIONS | {PUBLIC, OWN}:
            raise ValueError(f"{self.method} {self.path} declares no permission that there is.")

    @property
    def parameters(self) -> list[str]:
        """Return the names in the path."""
        return _PARAMETER.findall(self.path)

    @property
    def repeatable(self) -> bool:
        """Say whether it takes an idempotency key, which only means something between known people."""
        return self.method != "GET" and self.permission != PUBLIC

    @property
    def openai(self) -> bool:
        """Say whether the route is one of OpenAI's own."""
        return self.path.startswith("/v1/")

    @property
    def name(self) -> str:
        """Return the operation's id in the description."""
        place = self.path.removeprefix("/admin/v1").removeprefix("/v1")
        words = [word for word in re.split(r"[/{}_.-]+", place) if word]
        return "_".join([self.method.lower(), *words])


class Table:
    """All routes, each once.

    Raises:
        ValueError: two routes are the same; the gateway does not start.
    """

    def __init__(self, *parts: Iterable[Route]) -> None:
        self.routes = [route for part in parts for route in part]
        seen: set[tuple[str, str]] = set()
        for route in self.routes:
            place = (route.method, _PARAMETER.sub("{}", route.path))
            if place in seen:
                raise ValueError(f"{route.method} {route.path} stands twice in the table.")
            seen.add(place)
