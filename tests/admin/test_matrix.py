"""Every route of the admin API × every principal × own, sibling, foreign and absent things.

What is due stands in `policy.py`, by hand. A route that has no policy there fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine
from tests.admin.api import Reply
from tests.admin.policy import IN_ACCOUNT, NO_ACTOR, POLICY, PRINCIPALS, PUBLIC, verdict
from tests.admin.world import State, World

from headgate.process.admin import TABLE

_A, _P = "/admin/v1", "/v1/organization"
Things = dict[str, str]
BODIES: dict[str, Callable[[Things], dict[str, Any]]] = {
    f"POST {_A}/accounts": lambda t: {"name": "C"},
    f"PATCH {_A}/accounts/{{account_id}}": lambda t: {"name": "renamed"},
    f"PUT {_A}/accounts/{{account_id}}/tier": lambda t: {"tier": "tier1"},
    f"POST {_A}/projects": lambda t: {"name": "new", "account": t["account_id"]},
    f"PATCH {_A}/projects/{{project_id}}": lambda t: {"name": "renamed"},
    f"PUT {_A}/projects/{{project_id}}/members/{{member_id}}": lambda t: {"role": "member"},
    f"POST {_A}/projects/{{project_id}}/service_accounts": lambda t: {"name": "new"},
    f"POST {_A}/members": lambda t: {
        "email": "x@new.example.com",
        "role": "viewer",
        "account": t["account_id"],
    },
    f"PATCH {_A}/members/{{member_id}}": lambda t: {"name": "renamed"},
    f"POST {_A}/keys": lambda t: {"name": "new", "project": t["project_id"]},
    f"PATCH {_A}/keys/{{key_id}}": lambda t: {"name": "renamed"},
    f"POST {_A}/keys/{{key_id}}/rotate": lambda t: {},
    f"POST {_A}/budgets": lambda t: {"scope": "project", "ref": t["project_id"], "amount": 7},
    f"PATCH {_A}/budgets/{{budget_id}}": lambda t: {"amount": 7},
    f"POST {_A}/limits": lambda t: {"scope": "project", "ref": t["project_id"], "rpm": 7},
    f"POST {_A}/credit/grants": lambda t: {"account": t["account_id"], "amount": 7},
    f"POST {_A}/credit/topups": lambda t: {"account": t["account_id"], "amount": 7, "reference": "new"},
    f"POST {_A}/credit/refunds": lambda t: {"account": t["account_id"], "amount": 7, "reference": "new"},
    f"POST {_A}/credit/adjustments": lambda t: {
        "grant": t["grant_id"],
        "change": 7,
        "reference": "new",
        "note": "wrong",
    },
    f"POST {_A}/codes": lambda t: {"amount": 7},
    f"POST {_A}/redemptions": lambda t: {"account": t["account_id"], "code": t["code"]},
    f"POST {_A}/limit_requests": lambda t: {
        "account": t["account_id"],
        "wanted": {"rpm": 9},
        "reason": "growth",
    },
    f"POST {_A}/limit_requests/{{request_id}}/decision": lambda t: {"approve": True},
    f"POST {_A}/secrets": lambda t: {"name": "new", "value": "secret", "host": "https://b.example"},
    f"POST {_P}/projects": lambda t: {"name": "new"},
    f"POST {_P}/projects/{{project_id}}": lambda t: {"name": "renamed"},
    f"POST {_P}/projects/{{project_id}}/users": lambda t: {"user_id": t["newcomer"], "role": "member"},
    f"POST {_P}/projects/{{project_id}}/users/{{user_id}}": lambda t: {"role": "member"},
    f"POST {_P}/users/{{user_id}}": lambda t: {"role": "reader"},
    f"POST {_P}/projects/{{project_id}}/service_accounts": lambda t: {"name": "new"},
    f"POST {_P}/projects/{{project_id}}/service_accounts/{{service_account_id}}": lambda t: {
        "name": "renamed"
    },
    f"POST {_P}/projects/{{project_id}}/service_accounts/{{service_account_id}}/api_keys": lambda t: {},
    f"POST {_P}/projects/{{project_id}}/api_keys/{{key_id}}": lambda t: {"expires_in_seconds": 60},
    f"POST {_P}/admin_api_keys": lambda t: {"name": "new"},
    f"POST {_P}/projects/{{project_id}}/rate_limits/{{rate_limit_id}}": lambda t: {
        "max_requests_per_1_day": 7
    },
    **dict.fromkeys(
        (f"POST {_P}/spend_limit", f"POST {_P}/projects/{{project_id}}/spend_limit"),
        lambda t: {"currency": "USD", "interval": "month", "threshold_amount": 7},
    ),
}
# Lists name the account in their query.
QUERIES = {f"GET {_A}/usage": "accounts[]={}&by=key", f"GET {_A}/credit": "account={}"}
_START = "start_time=1700000000&end_time=1700090000"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    made.close()
    assert made.api.faults == []


def places(route: str) -> tuple[str, ...]:
    thing = POLICY[route].thing
    if thing == "project":
        return ("own", "sibling", "foreign", "absent")
    if thing == "account":
        return ("own", "foreign", "absent")
    return ("own", "absent") if "{" in route else ("own",)


def ask(world: World, route: str, principal: str, place: str) -> Reply:
    method, path = route.split(" ")
    things = world.things[place]
    if path.startswith(f"{_P}/admin_api_keys"):
        things = {**things, "key_id": things["admin_key_id"]}
    path = re.sub(r"{(\w+)}", lambda found: things[found[1]], path)
    if POLICY[route].thing == "account" and method == "GET" and "{" not in route:
        path += "?" + QUERIES.get(route, "account={}").format(things["account_id"])
    elif "/usage/" in path or path.endswith("/costs"):
        path += "?" + _START
    body = BODIES[route](things) if route in BODIES else None
    return world.api.call(method, path, body, key=world.keys[principal])


def test_every_route_has_a_policy_and_every_policy_a_route() -> None:
    assert {f"{route.method} {route.path}" for route in TABLE.routes} == {*POLICY, *PUBLIC}
    bodies = {f"{route.method} {route.path}" for route in TABLE.routes if route.body.__struct_fields__}
    assert bodies - set(PUBLIC) == {*BODIES, f"POST {_A}/keys/{{key_id}}/rotate"}


@pytest.mark.parametrize("route", POLICY)
def test_everybody_may_exactly_what_the_policy_says(world: World, route: str) -> None:
    wrong = []
    writes = not route.startswith("GET")
    world.restore()
    for principal in PRINCIPALS:
        for place in places(route):
            if principal == "root" and place == "absent" and route.startswith("GET") and "{" not in route:
                continue  # who owns the gateway may look for nothing
            due = verdict(route, principal, place)
            before = world.state()
            reply = ask(world, route, principal, place)
            got = reply.status if reply.status in {401, 403, 404} else 200
            if got != due:
                wrong.append((principal, place, due, reply.status, reply.body[:200]))
            if writes:
                wrong += _traces(world, before, reply, (principal, place))
    if writes:
        world.restore()
    assert not wrong, "\n".join(map(str, wrong))


def _traces(world: World, before: State, reply: Reply, cell: tuple[str, str]) -> list[Any]:
    """Return what is wrong with what a write has left behind; undo what it has changed."""
    after = world.state()
    changed, audited = after.digest != before.digest, after.audit - before.audit
    if changed:
        world.restore()
    if reply.status >= 500:
        return [(cell, reply.status)]
    if reply.status < 400:
        return [] if audited > 0 else [(cell, "done without a row of the audit")]
    due = 0 if cell[0] in NO_ACTOR else 1  # at the door nobody has a name
    if changed:
        return [(cell, "refused, and has changed something")]
    return [] if audited == due else [(cell, f"{audited} rows of the audit")]


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """What is asked of the database: what takes other steps takes another time."""
    seen: list[str] = []

    def note(*about: Any) -> None:
        seen.append(about[2])

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("route", [route for route in POLICY if POLICY[route].thing])
def test_what_is_elsewhere_cannot_be_told_from_what_is_not(
    world: World, route: str, statements: list[str]
) -> None:
    for principal in IN_ACCOUNT:
        statements.clear()
        foreign = ask(world, route, principal, "foreign")
        steps = statements[:]
        statements.clear()
        absent = ask(world, route, principal, "absent")
        assert statements == steps
        world.restore()
        assert (foreign.status, absent.status) == (404, 404)
        assert foreign.headers.keys() == absent.headers.keys()
        assert _plain(world, foreign, "foreign") == _plain(world, absent, "absent")


def _plain(world: World, reply: Reply, place: str) -> str:
    """Return an answer without the ids that were asked for."""
    text = reply.body.decode()
    for value in sorted(world.things[place].values(), key=len, reverse=True):
        text = text.replace(value, "…")
    return text


@pytest.mark.parametrize("route", [route for route in POLICY if route.startswith("GET")])
def test_nothing_of_another_account_is_ever_shown(world: World, route: str) -> None:
    foreign = [
        value for name, value in world.things["foreign"].items() if name not in {"name", "rate_limit_id"}
    ]
    gateways = {world.things["foreign"]["code_id"], world.things["foreign"]["code"]}
    for principal in IN_ACCOUNT:
        shown = ask(world, route, principal, "own").body.decode()
        assert not [value for value in foreign if value in shown and value not in gateways], principal


def test_a_list_of_admin_keys_shows_others_only_to_who_may_see_them(world: World) -> None:
    spare = world.things["own"]["admin_key_id"]
    for path in (f"{_P}/admin_api_keys?limit=100", f"{_A}/keys?kind=admin&limit=100"):
        for principal in IN_ACCOUNT:
            shown = world.api.call("GET", path, key=world.keys[principal]).body.decode()
            assert (spare in shown) is (principal in {"owner", "admin", "auditor"}), (path, principal)


def test_a_project_that_one_does_not_see_is_absent_as_a_filter_too(world: World) -> None:
    sibling, absent = (world.things[place]["project_id"] for place in ("sibling", "absent"))
    for principal in ("developer", "project_owner", "project_member"):
        for path in (f"{_A}/keys?project=", f"{_A}/usage?projects[]=", f"{_P}/costs?{_START}&project_ids[]="):
            replies = [
                world.api.call("GET", path + ref, key=world.keys[principal]) for ref in (sibling, absent)
            ]
            assert {reply.status for reply in replies} <= {403, 404}
            assert replies[0].body.replace(sibling.encode(), b"") == replies[1].body.replace(
                absent.encode(), b""
            )


@pytest.mark.parametrize("route", PUBLIC)
def test_what_is_public_asks_for_no_key(world: World, route: str, tmp_path: Path) -> None:
    method, path = route.split(" ")
    replies = [world.api.call(method, path, {}, key=world.keys[principal]) for principal in PRINCIPALS]
    world.restore()
    assert {reply.status for reply in replies} <= {400, 404}
    assert len({reply.body for reply in replies}) == 1
