"""The admin API: shapes, refusals, pages, and writes that happen once."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from tests.admin.api import Api

from headgate.admin.table import Route, Table
from headgate.process.admin import TABLE, AdminSettings
from headgate.records import ProjectRecord
from headgate.stores.sql.database import connect


def test_a_team_is_set_up_and_taken_down(api: Api) -> None:
    project = api.call("POST", "/admin/v1/projects", {"name": "shop", "environment": "production"})
    assert project.status == 201
    ref = project.json["id"]
    member = api.call("POST", "/admin/v1/members", {"email": "Li@Example.com", "role": "developer"}).json
    assert (member["email"], member["role"]) == ("li@example.com", "developer")
    role = api.call("PUT", f"/admin/v1/projects/{ref}/members/{member['id']}", {"role": "member"})
    assert role.json["role"] == "member"
    made = api.call("POST", "/admin/v1/keys", {"name": "li", "project": ref, "member": member["id"]})
    assert made.status == 201
    assert made.json["key"].startswith("sk-hg-live-")
    key = made.json["record"]["id"]
    changed = api.call("PATCH", f"/admin/v1/keys/{key}", {"models": ["gpt-4o*"], "rpm": 5})
    assert (changed.json["models"], changed.json["rpm"]) == (["gpt-4o*"], 5)
    rotated = api.call("POST", f"/admin/v1/keys/{key}/rotate", {"grace_s": 60})
    assert rotated.json["key"] not in {made.json["key"], ""}
    assert api.call("DELETE", f"/admin/v1/keys/{key}").json["revoked_at"] > 0
    budget = api.call(
        "POST", "/admin/v1/budgets", {"scope": "project", "ref": ref, "amount": 5_000_000_000, "book": "sim"}
    )
    assert (budget.json["book"], budget.json["amount"]) == ("sim", 5_000_000_000)
    gone = api.call("DELETE", f"/admin/v1/budgets/{budget.json['id']}")
    assert gone.json == {"id": budget.json["id"], "deleted": True}
    assert api.call("POST", f"/admin/v1/projects/{ref}/archive").json["archived_at"] > 0
    actions = [row["action"] for row in api.call("GET", "/admin/v1/audit?limit=100").json["data"]]
    assert actions[0] == "project.archived"
    assert {"key.rotated", "key.revoked", "budget.removed", "member.added"} <= set(actions)


def test_the_audit_is_searched(api: Api) -> None:
    key = api.key(name="other")
    made = api.call("POST", "/admin/v1/projects", {"name": "a"}, key=key).json["id"]
    api.call("POST", "/admin/v1/projects", {"name": ""}, key=key)
    actor = api.call("GET", f"/admin/v1/audit?ref={made}").json["data"][0]["actor"]
    outcomes = [row["outcome"] for row in api.call("GET", f"/admin/v1/audit?actor={actor}").json["data"]]
    assert outcomes == ["refused", "done"]
    (row,) = api.call("GET", f"/admin/v1/audit?actor={actor}&outcome=done&kind=project").json["data"]
    assert (row["action"], row["ref"]) == ("project.created", made)


def test_a_list_is_read_page_by_page(api: Api) -> None:
    made = [api.call("POST", "/admin/v1/projects", {"name": f"p{i}"}).json["id"] for i in range(7)]
    seen: list[str] = []
    path = "/admin/v1/projects?limit=3"
    while True:
        page = api.call("GET", path).json
        seen += [row["id"] for row in page["data"]]
        assert (page["object"], page["first_id"], page["last_id"]) == (
            "list", page["data"][0]["id"], page["data"][-1]["id"],
        )  # fmt: skip
        if not page["has_more"]:
            break
        path = f"/admin/v1/projects?limit=3&after={page['last_id']}"
    assert seen[1:] == made
    newest = api.call("GET", "/admin/v1/projects?limit=1&order=desc").json
    assert newest["data"][0]["id"] == made[-1]


@pytest.mark.parametrize(
    ("path", "param", "code"),
    [
        ("/admin/v1/projects?limit=0", "limit", "invalid_value"),
        ("/admin/v1/projects?limit=x", "limit", "invalid_type"),
        ("/admin/v1/projects?after=proj_none", "after", None),
        ("/admin/v1/projects?color=red", "color", "unknown_parameter"),
        ("/admin/v1/projects?limit=1&limit=2", "limit", "invalid_value"),
        ("/admin/v1/projects/proj_none?x=1", "x", "unknown_parameter"),
    ],
)
def test_a_wrong_query_is_named(api: Api, path: str, param: str | None, code: str | None) -> None:
    reply = api.call("GET", path)
    assert (reply.status, reply.error["param"], reply.error["code"]) == (400, param, code)


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        ({"name": "a", "colour": "red"}, 400, "colour", "unknown_parameter"),
        ({}, 400, "name", "missing_required_parameter"),
        ({"name": 5}, 400, "name", "invalid_type"),
        ([], 400, None, "invalid_type"),
        (b"{", 400, None, None),
        (b'{"name": "\xff"}', 400, None, None),
        (b"[" * 100_000, 400, None, "invalid_type"),
        (b'{"name": "' + b"x" * 300_000 + b'"}', 413, None, None),
    ],
)
def test_a_wrong_body_is_named(
    api: Api, body: object, status: int, param: str | None, code: str | None
) -> None:
    reply = api.call("POST", "/admin/v1/projects", body)
    assert (reply.status, reply.error["param"], reply.error["code"]) == (status, param, code)


def test_a_body_in_another_form_is_refused(api: Api) -> None:
    reply = api.call("POST", "/admin/v1/projects", b"name=a", headers={"content-type": "text/plain"})
    assert reply.status == 415


def test_who_sends_no_admin_key_is_told_which_to_send(api: Api) -> None:
    none = api.call("GET", "/admin/v1/projects", key=None)
    assert (none.status, none.error["code"]) == (401, None)
    assert "headgate keys create --kind admin" in none.error["message"]
    wrong = api.call("GET", "/admin/v1/projects", key="sk-hg-adm-" + "x" * 49)
    assert (wrong.status, wrong.error["code"]) == (401, "invalid_api_key")
    live = api.call("POST", "/admin/v1/keys", {"name": "live"}).json["key"]
    caller = api.call("GET", "/admin/v1/projects", key=live)
    assert (caller.status, caller.error["code"]) == (403, "admin_key_required")
    two = api.call("GET", "/admin/v1/projects", headers={"x-api-key": live})
    assert two.status == 400


def test_a_write_with_an_idempotency_key_happens_once(api: Api) -> None:
    once = {"idempotency-key": "project-1"}
    first = api.call("POST", "/admin/v1/projects", {"name": "a"}, headers=once)
    again = api.call("POST", "/admin/v1/projects", {"name": "a"}, headers=once)
    assert (first.status, again.status, first.body) == (201, 201, again.body)
    assert again.headers["x-headgate-replayed"] == "true"
    assert "x-headgate-replayed" not in first.headers
    other = api.call("POST", "/admin/v1/projects", {"name": "b"}, headers=once)
    assert (other.status, other.error["code"]) == (409, "idempotency_key_reused")
    names = [row["name"] for row in api.call("GET", "/admin/v1/projects").json["data"]]
    assert names == ["default", "a"]
    elsewhere = api.call("POST", "/admin/v1/projects", {"name": "b"}, key=api.key(name="other"), headers=once)
    assert elsewhere.status == 201


def test_a_refused_write_may_be_corrected_under_its_key(api: Api) -> None:
    once = {"idempotency-key": "project-1"}
    assert api.call("POST", "/admin/v1/projects", {"name": ""}, headers=once).status == 400
    assert api.call("POST", "/admin/v1/projects", {"name": "a"}, headers=once).status == 201


def test_a_secret_is_never_stored_for_a_replay(api: Api) -> None:
    once = {"idempotency-key": "key-1"}
    first = api.call("POST", "/admin/v1/keys", {"name": "a"}, headers=once).json
    again = api.call("POST", "/admin/v1/keys", {"name": "a"}, headers=once).json
    assert first["record"] == again["record"]
    assert (bool(first["key"]), again["key"]) == (True, "")
    for path in api.folder.rglob("*"):
        if path.is_file():
            assert first["key"].encode() not in path.read_bytes()


@pytest.mark.parametrize("key", ["", "x" * 256, "söme"])
def test_an_idempotency_key_that_is_none(api: Api, key: str) -> None:
    reply = api.call("POST", "/admin/v1/projects", {"name": "a"}, headers={"idempotency-key": key})
    assert (reply.status, reply.error["param"]) == (400, "Idempotency-Key")


def test_a_route_without_a_permission_stops_the_start() -> None:
    shape = {"method": "GET", "path": "/x", "summary": "x", "handle": lambda o, a: a, "answer": ProjectRecord}
    for permission in ("", "projects.everything"):
        with pytest.raises(ValueError, match="declares no permission"):
            Route(permission=permission, **shape)  # type: ignore[arg-type]
    route = Route(permission="projects.read", **shape)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stands twice"):
        Table([route], [route])


def test_the_description_has_every_route_and_says_who_may(api: Api) -> None:
    described = api.call("GET", "/admin/v1/openapi.json", key=None).json
    assert described["openapi"] == "3.1.0"
    served = {(route.method.lower(), route.path) for route in TABLE.routes}
    assert {(verb, path) for path, verbs in described["paths"].items() for verb in verbs} == served
    for route in TABLE.routes:
        said = described["paths"][route.path][route.method.lower()]
        assert said["x-permission"] == route.permission
        assert str(route.status) in said["responses"]
    names = [verb["operationId"] for verbs in described["paths"].values() for verb in verbs.values()]
    assert len(names) == len(set(names))


def test_limits_are_set_shown_and_removed(api: Api) -> None:
    project = api.call("POST", "/admin/v1/projects", {"name": "shop"}).json["id"]
    wish = {"scope": "project", "ref": project, "model": "gpt-4*", "rpm": 5, "tpd": 100}
    made = api.call("POST", "/admin/v1/limits", wish).json
    assert {name: made[name] for name in wish} == wish
    assert api.call("POST", "/admin/v1/limits", {**wish, "rpm": 6}).json["id"] == made["id"]
    assert api.call("GET", f"/admin/v1/limits/{made['id']}").json["rpm"] == 6
    assert [row["id"] for row in api.call("GET", f"/admin/v1/limits?project={project}").json["data"]] == [
        made["id"]
    ]
    assert api.call("POST", "/admin/v1/limits", {**wish, "rpm": -1}).error["param"] == "rpm"
    assert api.call("DELETE", f"/admin/v1/limits/{made['id']}").json["deleted"] is True
    assert api.call("GET", f"/admin/v1/limits/{made['id']}").status == 404


def test_a_budget_is_changed_and_says_what_was_spent(api: Api) -> None:
    project = api.call("POST", "/admin/v1/projects", {"name": "shop"}).json["id"]
    made = api.call("POST", "/admin/v1/budgets", {"scope": "project", "ref": project, "amount": 5}).json
    place = f"/admin/v1/budgets/{made['id']}"
    assert api.call("PATCH", place, {"amount": 7, "hard": False}).json == {**made, "amount": 7, "hard": False}
    now = api.call("GET", place).json
    assert (now["budget"]["amount"], now["spent"], now["left"], now["passed"]) == (7, 0, 7, [])
    assert now["since"] < now["until"]


def test_a_providers_key_is_stored_and_never_given_out(tmp_path: Path) -> None:
    api = Api(tmp_path, AdminSettings(keks=(b"k" * 32,)))
    wish = {"name": "mistral", "value": "sk-very-secret-value", "host": "https://api.mistral.ai"}
    stored = api.call("POST", "/admin/v1/secrets", wish, headers={"idempotency-key": "s"})
    assert (stored.status, stored.json["id"], stored.json["version"]) == (201, "mistral", 1)
    assert api.call("GET", "/admin/v1/secrets").json["data"] == [stored.json]
    assert api.call("POST", "/admin/v1/secrets", {**wish, "host": "ftp://x"}).error["param"] == "host"
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"sk-very-secret-value" not in path.read_bytes()
    assert api.call("DELETE", "/admin/v1/secrets/mistral").json["deleted"] is True
    assert api.call("DELETE", "/admin/v1/secrets/mistral").status == 404
    assert api.faults == []


def test_without_a_key_encryption_key_no_secret_is_stored(api: Api) -> None:
    wish = {"name": "mistral", "value": "sk-very-secret-value", "host": "https://api.mistral.ai"}
    assert api.call("POST", "/admin/v1/secrets", wish).status == 409


def test_old_keys_and_events_are_listed(api: Api) -> None:
    assert api.call("GET", "/admin/v1/key_ages").json["data"] == []
    assert api.call("GET", "/admin/v1/events").json["data"] == []
    key = api.call("POST", "/admin/v1/keys", {"name": "old"}).json["record"]["id"]
    with closing(connect(api.folder)) as sql:
        sql.execute("UPDATE keys SET created_at = created_at - 100 * 86400000000 WHERE public_id = ?", (key,))
        for number in range(2):
            sql.execute(
                "INSERT INTO events (at, account, kind, ref, name, detail) VALUES (5, 1, 'budget.threshold', ?, ?, ?)",
                (f"budget_{number}", f"name {number}", '{"share": 50}'),
            )
    (aged,) = api.call("GET", "/admin/v1/key_ages").json["data"]
    assert (aged["age"], aged["key"]["id"]) == ("old", key)
    assert api.call("GET", "/admin/v1/key_ages?days=101").json["data"] == []
    told = api.call("GET", "/admin/v1/events?limit=1").json
    assert (told["data"][0]["ref"], told["data"][0]["detail"], told["has_more"]) == (
        "budget_1",
        {"share": 50},
        True,
    )
    more = api.call("GET", f"/admin/v1/events?after={told['last_id']}&kind=budget.threshold").json
    assert [row["ref"] for row in more["data"]] == ["budget_0"]


def test_a_key_that_cannot_be_looked_up_is_not_said_to_be_wrong(tmp_path: Path) -> None:
    api = Api(tmp_path)
    with closing(connect(tmp_path)) as sql:
        sql.execute("ALTER TABLE keys RENAME TO gone")
    refused = api.call("GET", "/admin/v1/projects")
    assert refused.status == 503
    assert refused.json["error"]["type"] == "service_unavailable_error"
    assert refused.headers["retry-after"]
    assert len(api.faults) == 1  # told to who runs the gateway
