"""`client.admin.organization` of the official SDK cannot tell us from OpenAI."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion
from tests.surfaces.conftest import Gateway

HELLO = [{"role": "user", "content": "Say pong"}]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    made = Gateway(tmp_path_factory.mktemp("admin"))
    yield made
    code, _, err = made.stop()
    assert (code, err) == (0, "")


@pytest.fixture(scope="module")
def admin_key(gateway: Gateway) -> str:
    said = gateway.command("keys", "create", "--name", "root", "--kind", "admin", "--json")
    assert said.returncode == 0, said.stderr
    return next(word for word in said.stdout.split('"') if word.startswith("sk-hg-adm-"))


@pytest.fixture(scope="module")
def client(gateway: Gateway, admin_key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.base, api_key="x", admin_api_key=admin_key, max_retries=0) as made:
        yield made


def test_projects(client: openai.OpenAI) -> None:
    projects = client.admin.organization.projects
    made = projects.create(name="shop")
    assert (made.object, made.name, made.status, made.archived_at) == (
        "organization.project", "shop", "active", None,
    )  # fmt: skip
    assert projects.retrieve(made.id) == made
    assert projects.update(made.id, name="store").name == "store"
    for index in range(3):
        projects.create(name=f"p{index}")
    names = [each.name for each in projects.list(limit=2)]
    assert names == ["default", "store", "p0", "p1", "p2"]
    archived = projects.archive(made.id)
    assert archived.status == "archived"
    assert archived.archived_at >= made.created_at
    assert "store" not in [each.name for each in projects.list()]
    assert "store" in [each.name for each in projects.list(include_archived=True)]
    with pytest.raises(openai.NotFoundError):
        projects.retrieve("proj_none")


def test_users_of_the_organization_and_of_a_project(client: openai.OpenAI) -> None:
    organization = client.admin.organization
    owner = _member(client, "owner@example.com", "owner")
    reader = _member(client, "reader@example.com", "developer")
    assert [user.email for user in organization.users.list()] == ["owner@example.com", "reader@example.com"]
    assert [user.id for user in organization.users.list(emails=["Reader@example.com"])] == [reader]
    shown = organization.users.retrieve(reader)
    assert (shown.object, shown.role, shown.is_service_account) == ("organization.user", "reader", False)
    assert organization.users.update(reader, role="owner").role == "owner"
    assert organization.users.update(reader, role="reader").role == "reader"

    project = organization.projects.create(name="team").id
    users = organization.projects.users
    joined = users.create(project, role="member", email="reader@example.com")
    assert (joined.id, joined.role, joined.object) == (reader, "member", "organization.project.user")
    assert users.create(project, role="owner", user_id=owner).role == "owner"
    assert {user.id for user in users.list(project)} == {owner, reader}
    assert users.retrieve(reader, project_id=project) == joined
    assert users.update(reader, project_id=project, role="owner").role == "owner"
    gone = users.delete(reader, project_id=project)
    assert (gone.deleted, gone.object) == (True, "organization.project.user.deleted")
    with pytest.raises(openai.NotFoundError):
        users.retrieve(reader, project_id=project)
    assert organization.users.delete(reader).object == "organization.user.deleted"
    with pytest.raises(openai.NotFoundError):
        organization.users.retrieve(reader)


def first_answer(caller: openai.OpenAI) -> ChatCompletion:
    """Make a call with a key that is new: a running server knows it within a second."""
    end = time.monotonic() + 5  # on a busy machine
    while True:
        try:
            return caller.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        except openai.AuthenticationError:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_service_accounts_and_their_keys_make_calls_until_they_go(
    client: openai.OpenAI, gateway: Gateway
) -> None:
    projects = client.admin.organization.projects
    project = projects.create(name="robots").id
    made = projects.service_accounts.create(project, name="crawler", expires_in_seconds=3600)
    assert (made.object, made.role, made.name) == (
        "organization.project.service_account", "member", "crawler",
    )  # fmt: skip
    assert made.api_key is not None
    assert made.api_key.expires_at - made.api_key.created_at == 3600
    assert projects.service_accounts.retrieve(made.id, project_id=project).name == "crawler"
    renamed = projects.service_accounts.update(made.id, project_id=project, name="spider")
    assert [each.name for each in projects.service_accounts.list(project)] == [renamed.name] == ["spider"]
    second = projects.service_accounts.api_keys.create(made.id, project_id=project, name="second")

    with openai.OpenAI(base_url=gateway.base, api_key=second.value, max_retries=5) as caller:
        assert first_answer(caller).usage is not None
    keys = list(projects.api_keys.list(project))
    assert [key.name for key in keys] == ["crawler", "second"]
    owner = keys[0].owner
    assert (owner.type, owner.service_account.id) == ("service_account", made.id)
    assert second.value not in str(keys)
    assert projects.api_keys.retrieve(second.id, project_id=project).redacted_value.endswith(
        second.value[-4:]
    )
    until = projects.api_keys.update(second.id, project_id=project, expires_in_seconds=60).expires_at
    assert until is not None
    assert (
        projects.api_keys.delete(second.id, project_id=project).object
        == "organization.project.api_key.deleted"
    )
    with pytest.raises(openai.NotFoundError):
        projects.api_keys.retrieve(second.id, project_id=project)
    assert projects.service_accounts.delete(made.id, project_id=project).deleted
    assert list(projects.service_accounts.list(project)) == []
    inactive = projects.api_keys.list(project, owner_project_access="inactive")
    assert [key.owner_project_access for key in inactive] == ["inactive"]
    assert list(projects.api_keys.list(project, owner_project_access="active")) == []


def test_admin_keys(client: openai.OpenAI, gateway: Gateway) -> None:
    keys = client.admin.organization.admin_api_keys
    made = keys.create(name="robot", expires_in_seconds=600)
    assert (made.object, made.name) == ("organization.admin_api_key", "robot")
    assert keys.retrieve(made.id).redacted_value == made.redacted_value != made.value
    assert next(key.name for key in keys.list(order="desc", limit=1)) == "robot"
    with openai.OpenAI(base_url=gateway.base, api_key="x", admin_api_key=made.value, max_retries=0) as other:
        assert other.admin.organization.projects.list().data
        assert keys.delete(made.id).object == "organization.admin_api_key.deleted"
        with pytest.raises(openai.AuthenticationError):
            other.admin.organization.projects.list()
    with pytest.raises(openai.NotFoundError):
        keys.retrieve(made.id)


def test_rate_limits_of_a_project(client: openai.OpenAI) -> None:
    projects = client.admin.organization.projects
    project, none = projects.create(name="limited").id, 2**31 - 1
    assert list(projects.rate_limits.list_rate_limits(project)) == []
    made = projects.rate_limits.update_rate_limit(
        "rl-gpt-4o", project_id=project, max_requests_per_1_minute=500, max_tokens_per_1_minute=30_000
    )
    assert (made.id, made.object, made.model) == ("rl-gpt-4o", "project.rate_limit", "gpt-4o")
    assert (made.max_requests_per_1_minute, made.max_requests_per_1_day) == (500, none)
    again = projects.rate_limits.update_rate_limit("rl-gpt-4o", project_id=project, max_requests_per_1_day=9)
    assert (again.max_tokens_per_1_minute, again.max_requests_per_1_day) == (30_000, 9)
    for model in ("*", "gpt-4*", "o3"):
        projects.rate_limits.update_rate_limit(f"rl-{model}", project_id=project, max_requests_per_1_minute=1)
    found = [limit.model for limit in projects.rate_limits.list_rate_limits(project, limit=2)]
    assert found == ["gpt-4o", "*", "gpt-4*", "o3"]
    before = projects.rate_limits.list_rate_limits(project, before="rl-o3", limit=1)
    assert ([limit.model for limit in before.data], before.has_more) == (["gpt-4*"], True)
    projects.rate_limits.update_rate_limit("rl-o3", project_id=project, max_requests_per_1_minute=none)
    assert len(list(projects.rate_limits.list_rate_limits(project))) == 3
    with pytest.raises(openai.NotFoundError):
        projects.rate_limits.update_rate_limit("gpt-4o", project_id=project, max_requests_per_1_minute=1)


def test_spend_limits_hold(client: openai.OpenAI, gateway: Gateway) -> None:
    organization = client.admin.organization
    project = organization.projects.create(name="capped").id
    made = organization.projects.service_accounts.create(project, name="spender")
    limits = organization.projects.spend_limit
    for read in (organization.spend_limit.retrieve, lambda: limits.retrieve(project)):
        with pytest.raises(openai.NotFoundError):
            read()
    whole = organization.spend_limit.update(currency="USD", interval="month", threshold_amount=100_000)
    assert (whole.object, whole.threshold_amount) == ("organization.spend_limit", 100_000)
    assert organization.spend_limit.retrieve() == whole
    for cents in (500, 1):
        limit = limits.update(project, currency="USD", interval="month", threshold_amount=cents)
        assert (limit.object, limit.threshold_amount) == ("project.spend_limit", cents)
        assert (limit.currency, limit.interval, limit.enforcement.status) == ("USD", "month", "inactive")
    assert limits.retrieve(project) == limit
    time.sleep(1)  # a running server follows
    with (
        openai.OpenAI(base_url=gateway.base, api_key=made.api_key.value, max_retries=0) as caller,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        _spend(caller)
    assert caught.value.code == "project_spend_limit_exceeded"
    assert limits.delete(project).object == "project.spend_limit.deleted"
    assert organization.spend_limit.delete().deleted
    with pytest.raises(openai.NotFoundError):
        limits.delete(project)


def test_the_organization_of_a_client_must_be_that_of_its_key(gateway: Gateway, admin_key: str) -> None:
    with (
        openai.OpenAI(
            base_url=gateway.base,
            api_key="x",
            admin_api_key=admin_key,
            organization="acct_none",
            max_retries=0,
        ) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.admin.organization.projects.list()
    assert caught.value.code == "mismatched_organization"


def test_the_async_client_and_one_without_v1_in_its_url(gateway: Gateway, admin_key: str) -> None:
    async def run() -> list[str | None]:
        base = gateway.base.removesuffix("/v1")
        async with openai.AsyncOpenAI(base_url=base, api_key="x", admin_api_key=admin_key) as client:
            return [project.name async for project in client.admin.organization.projects.list(limit=1)]

    assert "default" in asyncio.run(run())


def test_what_is_not_served_is_refused_as_openai_would(client: openai.OpenAI, gateway: Gateway) -> None:
    with pytest.raises(openai.NotFoundError, match="does not serve this route") as caught:
        client.admin.organization.certificates.list()
    assert caught.value.code == "unknown_url"
    base = gateway.base.removesuffix("/v1")
    for path in (
        "/admin/v1/nothing",
        "/admin/v1",
        "/admin/v1/projects/",
        "/ADMIN/v1/projects",
        "/v1/Organization",
    ):
        status, _, error = _refused("GET", base + path)
        assert (status, error["code"]) == (404, "unknown_url"), path
    for path in ("/admin/v1/projects", "/v1/organization/projects"):
        status, allow, error = _refused("PUT", base + path)
        assert (status, allow, error["code"]) == (405, "GET, POST", "method_not_supported")


def _spend(client: openai.OpenAI) -> None:
    for _ in range(100):
        client.chat.completions.create(model="gpt-4", messages=HELLO, max_tokens=200)


def _refused(method: str, url: str) -> tuple[int, str | None, dict[str, str]]:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10)
    with caught.value as reply:
        return reply.code, reply.headers["allow"], json.load(reply)["error"]


def _member(client: openai.OpenAI, email: str, role: str) -> str:
    made = client.with_options(base_url=str(client.base_url).replace("/v1", "/admin/v1")).post(
        "/members", body={"email": email, "role": role}, cast_to=object,
        options={"security": {"admin_api_key_auth": True}},
    )  # fmt: skip
    return str(made["id"])


# ── usage and costs ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, openai.OpenAI]]:
    """A gateway with calls of two projects, streamed and not, and a client with its admin key."""
    gateway = Gateway(tmp_path_factory.mktemp("used"))
    said = gateway.command("keys", "create", "--name", "root", "--kind", "admin", "--json")
    key = next(word for word in said.stdout.split('"') if word.startswith("sk-hg-adm-"))
    with openai.OpenAI(base_url=gateway.base, api_key=gateway.key, admin_api_key=key) as client:
        project = client.admin.organization.projects.create(name="shop").id
        made = client.admin.organization.projects.service_accounts.create(project, name="robot")
        with openai.OpenAI(base_url=gateway.base, api_key=made.api_key.value, max_retries=5) as robot:
            _call(client)
            _call(robot)
            robot.embeddings.create(model="text-embedding-3-small", input="pong")
            with robot.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True) as stream:
                next(iter(stream))  # hung up
        until = time.monotonic() + 10
        while _reported(gateway, "model")["total"]["calls"] < 10 and time.monotonic() < until:
            time.sleep(0.1)
        yield gateway, client
    code, _, err = gateway.stop()
    assert (code, err) == (0, "")


def _call(client: openai.OpenAI) -> None:
    for model in ("gpt-4o", "gpt-4o-mini"):
        client.chat.completions.create(model=model, messages=HELLO)
    assert list(client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))
    client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Say pong")


def _reported(gateway: Gateway, by: str) -> Any:
    return json.loads(gateway.command("usage", "--by", by, "--json").stdout)


def _nano(value: float | None) -> int:
    nano = Decimal(str(value)).scaleb(9)
    assert nano == int(nano)
    return int(nano)


def _since() -> int:
    return int(time.time()) // 86_400 * 86_400 - 86_400


def test_costs_are_what_the_command_says(used: tuple[Gateway, openai.OpenAI]) -> None:
    gateway, client = used
    costs = client.admin.organization.usage.costs
    whole = costs(start_time=_since())
    assert [bucket.object for bucket in whole.data] == ["bucket"] * len(whole.data)
    results = [result for bucket in whole.data for result in bucket.results]
    total = _reported(gateway, "day")["total"]["cost_nano_usd"]
    assert sum(_nano(result.amount.value) for result in results) == total > 0
    assert {result.amount.currency for result in results} == {"usd"}
    for group, by in (("project_id", "project"), ("line_item", "model"), ("api_key_id", "key")):
        found: dict[str, int] = {}
        for bucket in costs(start_time=_since(), group_by=[group]).data:
            for result in bucket.results:
                name = getattr(result, group)
                found[name] = found.get(name, 0) + _nano(result.amount.value)
        rows = {row["name"]: row["cost_nano_usd"] for row in _reported(gateway, by)["rows"]}
        assert found == rows


def test_usage_is_what_the_command_says(used: tuple[Gateway, openai.OpenAI]) -> None:
    gateway, client = used
    usage = client.admin.organization.usage
    sums = dict.fromkeys(("calls", "input_tokens", "output_tokens", "cached_tokens"), 0)
    for bucket in usage.completions(start_time=_since(), group_by=["model", "project_id"]).data:
        for result in bucket.results:
            assert result.object == "organization.usage.completions.result"
            assert result.model
            assert result.project_id
            sums["calls"] += result.num_model_requests
            sums["input_tokens"] += result.input_tokens
            sums["output_tokens"] += result.output_tokens
            sums["cached_tokens"] += result.input_cached_tokens or 0
    for bucket in usage.embeddings(start_time=_since()).data:
        for result in bucket.results:
            assert result.object == "organization.usage.embeddings.result"
            assert result.model is None
            sums["calls"] += result.num_model_requests
            sums["input_tokens"] += result.input_tokens
    total = _reported(gateway, "day")["total"]
    assert sums == {name: total[name] for name in sums}
    assert sums["calls"] == 10


@pytest.mark.parametrize("width", ["1m", "1h", "1d"])
def test_usage_is_read_page_by_page(used: tuple[Gateway, openai.OpenAI], width: Any) -> None:
    _, client = used
    usage = client.admin.organization.usage
    start, end = int(time.time()) - 3600, int(time.time()) + 60
    one = usage.completions(
        start_time=start, end_time=end, bucket_width=width, limit=100 if width == "1m" else 24
    )
    pages, page, calls = [], "", 0
    while True:
        more = {"page": page} if page else {}
        part = usage.completions(start_time=start, end_time=end, bucket_width=width, limit=1, **more)
        pages += [(bucket.start_time, bucket.end_time) for bucket in part.data]
        calls += sum(result.num_model_requests for bucket in part.data for result in bucket.results)
        if not part.has_more:
            break
        assert part.next_page
        page = part.next_page
    assert pages == [(bucket.start_time, bucket.end_time) for bucket in one.data]
    assert (pages[0][0], pages[-1][1]) == (start, end)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(pages))
    assert calls == 9


def test_usage_is_narrowed_and_what_is_not_served_is_empty(used: tuple[Gateway, openai.OpenAI]) -> None:
    _, client = used
    usage = client.admin.organization.usage
    mini = usage.completions(start_time=_since(), models=["gpt-4o-mini"])
    assert [result.num_model_requests for bucket in mini.data for result in bucket.results] == [2]
    shop = [project.id for project in client.admin.organization.projects.list() if project.name == "shop"]
    some = usage.completions(start_time=_since(), project_ids=shop)
    assert [result.num_model_requests for bucket in some.data for result in bucket.results] == [5]
    assert not any(bucket.results for bucket in usage.completions(start_time=_since(), batch=True).data)
    for kind in (
        "moderations", "images", "audio_speeches", "audio_transcriptions", "vector_stores",
        "code_interpreter_sessions", "file_search_calls", "web_search_calls", "decisions",
    ):  # fmt: skip
        page = getattr(usage, kind)(start_time=_since())
        assert page.data
        assert not any(bucket.results for bucket in page.data)
    for wrong, param in (
        ({"limit": 32}, "limit"), ({"page": "page_zz"}, "page"), ({"end_time": 5}, "end_time"),
        ({"bucket_width": "1w"}, "bucket_width"), ({"group_by": ["colour"]}, "group_by[0]"),
    ):  # fmt: skip
        with pytest.raises(openai.BadRequestError) as caught:
            usage.completions(start_time=_since(), **wrong)
        assert caught.value.param == param


def test_the_async_client_reads_costs(used: tuple[Gateway, openai.OpenAI]) -> None:
    gateway, client = used

    async def run() -> int:
        async with openai.AsyncOpenAI(
            base_url=gateway.base, api_key="x", admin_api_key=client.admin_api_key
        ) as other:
            page = await other.admin.organization.usage.costs(start_time=_since())
            return sum(_nano(each.amount.value) for bucket in page.data for each in bucket.results)

    assert asyncio.run(run()) == _reported(gateway, "day")["total"]["cost_nano_usd"]
