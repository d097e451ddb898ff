"""What people do in their first hour with a running gateway, by the command line, and what calls then get."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.stores.books import figures
from tests.surfaces.conftest import Gateway, InstalledGateway

from headgate.cli.root import cli

FOLLOWS_S = 3.0  # a change reaches a server within one second; the rest is for a busy machine
USD = 1_000_000_000


class Team:
    """A gateway and its command line."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def run(self, *args: str) -> str:
        """Run a command that must succeed; return what it printed."""
        done = CliRunner().invoke(cli, [*args, "--data", str(self.gateway.data)], prog_name="headgate")
        assert done.exit_code == 0, (args, done.output)
        return done.stdout

    def tell(self, *args: str) -> Any:
        """Run it with --json."""
        return json.loads(self.run(*args, "--json"))

    def key(self, *args: str) -> str:
        return self.run("keys", "create", *args).strip()

    def ask(self, key: str, model: str = "gpt-4o-mini") -> tuple[int, dict[str, Any]]:
        """Make a call; return its status, and what went wrong."""
        body = {"model": model, "max_tokens": 20, "messages": [{"role": "user", "content": "Say hello"}]}
        request = urllib.request.Request(
            f"{self.gateway.base}/chat/completions",
            json.dumps(body).encode(),
            {"authorization": f"Bearer {key}", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, {}
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.loads(refused.read())["error"]

    def booked(self, calls: int) -> None:
        """Wait until the database has so many calls: what is left of a grant is said by it."""
        deadline = time.monotonic() + FOLLOWS_S
        while figures(self.gateway.data, "SELECT count(*) FROM calls")[0][0] < calls:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def soon(self, key: str, meant: Callable[[int, dict[str, Any]], bool], model: str = "gpt-4o-mini") -> Any:
        """Ask until the answer is the one that is meant; return what went wrong then."""
        deadline = time.monotonic() + FOLLOWS_S
        while True:
            status, error = self.ask(key, model)
            if meant(status, error):
                return error
            assert time.monotonic() < deadline, (status, error)
            time.sleep(0.1)


def served(status: int, error: dict[str, Any]) -> bool:
    del error
    return status == 200


def refused(code: str) -> Callable[[int, dict[str, Any]], bool]:
    return lambda status, error: error.get("code") == code and status >= 400


@pytest.fixture
def internal(tmp_path: Path) -> Iterator[Team]:
    gateway = InstalledGateway(tmp_path / "internal")
    yield Team(gateway)
    gateway.stop()


@pytest.fixture
def prepaid(tmp_path: Path) -> Iterator[Team]:
    gateway = InstalledGateway(tmp_path / "prepaid", "--mode", "prepaid")
    yield Team(gateway)
    gateway.stop()


def test_a_new_team_gets_going(internal: Team) -> None:
    bob = people_come(internal)
    limits_hold_and_are_raised(internal, bob)
    newest = secrets_are_changed(internal, bob)
    a_cap_is_raised_and_lowered(internal, newest)
    it_can_be_seen_who_did_what(internal, newest)


def people_come(team: Team) -> str:
    team.run("accounts", "change", "default", "--rename", "Acme Robotics")
    team.run("members", "create", "ann@acme.example", "--role", "owner", "--name", "Ann")
    team.run("projects", "create", "staging", "--environment", "staging")
    team.run("members", "create", "bob@acme.example", "--name", "Bob", "--project", "staging")
    return team.key("--name", "bob", "--member", "bob@acme.example", "--project", "staging", "--rpm", "2",
                   "--model", "gpt-4o-mini")  # fmt: skip


def limits_hold_and_are_raised(team: Team, bob: str) -> None:
    team.soon(bob, served)
    assert team.ask(bob)[0] == 200
    status, error = team.ask(bob)
    assert (status, error["code"]) == (429, "rate_limit_exceeded")
    assert team.ask(bob, "gpt-4o")[0] in {403, 404}
    team.run("keys", "change", "bob", "--rpm", "0", "--model", "all")
    team.soon(bob, served, "gpt-4o")


def secrets_are_changed(team: Team, bob: str) -> str:
    fresh = team.run("keys", "rotate", "bob", "--grace", "1h").strip()
    team.soon(fresh, served)
    assert team.ask(bob)[0] == 200
    newest = team.run("keys", "rotate", "bob").strip()
    team.soon(newest, served)
    team.soon(fresh, refused("invalid_api_key"))
    assert team.ask(bob)[0] == 401
    return newest


def a_cap_is_raised_and_lowered(team: Team, newest: str) -> None:
    _, cap = team.tell("budgets", "create", "0.000001/total", "--project", "staging")
    error = team.soon(newest, refused("project_spend_limit_exceeded"))
    assert error["type"] == "insufficient_quota"
    assert "may cost up to" in error["message"]
    assert "of the project's $0.000001" in error["message"]
    team.run("budgets", "change", cap["id"], "--amount", "5")
    team.soon(newest, served)
    standing = team.tell("budgets", "show", cap["id"])
    assert 0 < standing["spent"] == 5 * USD - standing["left"]
    team.run("budgets", "change", cap["id"], "--amount", "0")
    team.soon(newest, refused("project_spend_limit_exceeded"))


def it_can_be_seen_who_did_what(team: Team, newest: str) -> None:
    [row] = team.tell("usage", "--by", "member")["rows"]
    assert row["name"] == team.tell("members", "show", "bob@acme.example")["id"]
    assert "staging (proj_" in team.run("usage", "--by", "project", "--account", "Acme Robotics")
    team.run("keys", "revoke", "bob")
    team.soon(newest, refused("invalid_api_key"))
    done = {row["action"] for row in team.tell("audit", "list", "--last", "100")}
    assert {"account.changed", "member.added", "key.rotated", "budget.changed", "key.revoked"} <= done
    assert "The books hold" in team.run("ledger", "check")


def test_a_prepaid_gateway_takes_money_and_gives_it_back(prepaid: Team) -> None:
    team, key = prepaid, prepaid.gateway.key
    assert team.tell("credit", "balance", "--play")["left"] == 5 * USD  # the sign-up grant

    # tier Free allows three calls a minute; a payment earns the next tier at once
    assert [team.ask(key)[0] for _ in range(3)] == [200] * 3
    status, error = team.ask(key)
    assert (status, error["code"]) == (429, "rate_limit_exceeded")
    assert "tier free" in error["message"]
    assert "tier tier1" in team.run("credit", "top-up", "20", "--reference", "发票-117", "--note", "首次充值")
    team.soon(key, served)
    assert team.tell("tiers", "next")["missing"] == 30 * USD

    # a code, redeemed once
    [code] = team.tell("credit", "codes", "create", "2", "--play", "--days", "30")
    assert "$2.00 more" in team.run("credit", "redeem", code["code"])
    done = CliRunner().invoke(cli, ["credit", "redeem", code["code"], "--data", str(team.gateway.data)])
    assert (done.exit_code, "redeemed already" in done.output) == (1, True)

    # all credit is taken away while the server runs: the refusal says what a call may cost
    team.booked(4)
    for grant in team.tell("credit", "grants"):
        if grant["book"] == "sim":
            size = f"{grant['left'] // USD}.{grant['left'] % USD:09d}"
            team.run("credit", "adjust", grant["id"], "--take", size, "--note", "测试")
    error = team.soon(key, refused("insufficient_quota"))
    assert error["type"] == "insufficient_quota"
    assert "may cost up to" in error["message"]
    assert "$0.00 is left" in error["message"]
    team.run("credit", "gift", "1", "--play")
    team.soon(key, served)

    # and a cap of the account on top
    team.run("budgets", "create", "0.0000001/day")
    team.soon(key, refused("organization_spend_limit_exceeded"))
    team.run("credit", "refund", "20", "--reference", "退款-117")
    assert team.tell("credit", "balance")["paid"] == 0
    assert "首次充值" in team.run("credit", "history")
    assert "The books hold" in team.run("ledger", "check")
