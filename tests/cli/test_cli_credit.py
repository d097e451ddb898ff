"""Credit, codes and tiers on the command line, on the data folder of a prepaid server that has stopped."""

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.cli.conftest import Run

from headgate.money.terms import ModeSettings, terms_of
from headgate.money.tiers import load_tiers
from headgate.ops.actors import LOCAL
from headgate.ops.desk import Desk
from headgate.ops.tiers import LimitRequestOrder, request_limits
from headgate.ports import SystemClock
from headgate.stores.sql.admin import SqlAdminStore
from headgate.stores.sql.database import connect
from headgate.stores.sql.terms import put_terms

Say = Callable[..., Any]
USD = 1_000_000_000


@pytest.fixture
def data(run: Run, tmp_path: Path) -> Path:
    """A data folder whose last server was prepaid, with the shipped terms and tiers."""
    run("keys", "create", "--name", "a")
    folder = tmp_path / "headgate-data"
    with closing(connect(folder)) as sql:
        put_terms(sql, 1, terms_of(ModeSettings(name="prepaid")), load_tiers(), SystemClock().wall())
    return folder


def test_a_top_up_is_booked_once_and_earns_a_tier(data: Path, say: Say, run: Run) -> None:
    before = say("credit", "balance")
    assert (before["left"], before["paid"], before["tier"]) == (5 * USD, 0, "free")
    first = say("credit", "top-up", "20", "--reference", "invoice-1", "--note", "银行转账")
    assert say("credit", "top-up", "20", "--reference", "invoice-1") == first
    assert (first["kind"], first["amount"], first["reference"]) == ("topup", 20 * USD, "manual:invoice-1")
    after = say("credit", "balance")
    assert (after["left"], after["paid"], after["tier"]) == (25 * USD, 20 * USD, "tier1")
    assert say("tiers", "next") == {
        "account": after["account"],
        "tier": "tier1",
        "paid": 20 * USD,
        "next_tier": "tier2",
        "missing": 30 * USD,
        "not_before": 0,
    }
    assert "tier2 after $30.00 more is paid" in run("credit", "balance").stdout
    assert "tier2 after $30.00 more is paid" in run("tiers", "next").stdout
    assert "has $30.00, tier tier1" in run("credit", "top-up", "5", "--reference", "invoice-2").stdout
    assert "银行转账" in run("credit", "history").stdout


def test_gifts_of_money_and_of_tokens_have_their_own_expiry_and_earn_no_tier(
    data: Path, say: Say, run: Run
) -> None:
    money = say("credit", "gift", "500", "--days", "30", "--note", "welcome")
    assert (money["kind"], money["amount"]) == ("gift", 500 * USD)
    assert 0 < money["expires_at"] - money["created_at"] - 30 * 86_400_000_000 + 1 < 1_000_000
    tokens = say("credit", "gift", "--tokens", "1m", "--model", "gpt-4o*")
    assert (tokens["model"], tokens["amount"], tokens["expires_at"]) == ("gpt-4o*", 1_000_000, 0)
    say("credit", "gift", "3", "--play")
    standing = say("credit", "balance")
    assert (standing["left"], standing["tokens"], standing["tier"]) == (
        505 * USD,
        {"gpt-4o*": 1_000_000},
        "free",
    )
    assert say("credit", "balance", "--play")["left"] == 8 * USD
    table = run("credit", "grants").stdout
    for text in ("1,000,000", "gpt-4o*", "$500.00", "play money", "welcome"):
        assert text in table
    assert "Gave 200,000 tokens of o3" in run("credit", "gift", "--tokens", "200k", "--model", "o3").stdout
    assert (
        say("credit", "gift", "1", "--reference", "x")["id"]
        == say("credit", "gift", "1", "--reference", "x")["id"]
    )


def test_a_refund_takes_what_was_paid_and_no_more_unless_it_may_be_owed(
    data: Path, say: Say, run: Run
) -> None:
    say("credit", "top-up", "20", "--reference", "p")
    assert say("credit", "refund", "5", "--reference", "r1")["amount"] == -5 * USD
    refused = run("credit", "refund", "100", "--reference", "r2", "--json")
    assert refused.exit_code == 1
    assert msgspec.json.decode(refused.stderr)["error"]["code"] == "balance_too_low"
    assert "owes $85.00" in run("credit", "refund", "100", "--reference", "r2", "--debt").stdout
    standing = say("credit", "balance")
    assert (standing["left"], standing["owed"], standing["paid"]) == (5 * USD, 85 * USD, -85 * USD)
    assert "owes" in run("credit", "balance").stdout
    say("credit", "top-up", "90", "--reference", "p2")
    assert say("credit", "balance")["owed"] == 0


def test_a_grant_is_put_right_by_an_entry_of_its_own(data: Path, say: Say, run: Run) -> None:
    money = say("credit", "gift", "10")["id"]
    tokens = say("credit", "gift", "--tokens", "1000", "--model", "o3")["id"]
    assert say("credit", "adjust", money, "--add", "1.50", "--note", "outage")["amount"] == 1_500_000_000
    assert say("credit", "adjust", tokens, "--take", "400", "--note", "oops")["tokens"] == -400
    assert "Took 100 tokens" in run("credit", "adjust", tokens, "--take", "100", "--note", "more").stdout
    left = {row["id"]: row["left"] for row in say("credit", "grants")}
    assert (left[money], left[tokens]) == (11_500_000_000, 500)
    assert [row["kind"] for row in say("credit", "history", "--last", "3")] == ["adjustment"] * 3
    again = ("credit", "adjust", money, "--take", "1", "--note", "n", "--reference", "ref")
    assert say(*again)["id"] == say(*again)["id"]


def test_codes_are_made_redeemed_once_listed_and_revoked(data: Path, say: Say, run: Run) -> None:
    result = run("credit", "codes", "create", "10", "--count", "2", "--days", "90")
    first, second = result.stdout.split()
    assert re.fullmatch(r"HG(-[0-9A-HJKMNP-TV-Z]{5}){5}", first)
    assert "$10.00 for 90 days" in result.stderr
    grant = say("credit", "redeem", first.lower().replace("-", " "))
    assert (grant["kind"], grant["amount"]) == ("code", 10 * USD)
    assert run("credit", "redeem", first).exit_code == 1
    [made] = say("credit", "codes", "create", "--tokens", "5k", "--model", "gpt-4o-mini", "--expires", "30d")
    assert (made["tokens"], made["model"]) == (5_000, "gpt-4o-mini")
    assert made["expires_at"] - made["created_at"] == 30 * 86_400_000_000
    rows = say("credit", "codes", "list")
    assert [(row["state"], row["shown"][:5]) for row in rows] == [
        ("open", second[:5]),
        ("open", made["shown"][:5]),
    ]
    assert all("code" not in row and "digest" not in row for row in rows)
    assert "Revoked" in run("credit", "codes", "revoke", rows[0]["id"]).stdout
    assert [row["state"] for row in say("credit", "codes", "list", "--all")] == [
        "redeemed",
        "revoked",
        "open",
    ]
    table = run("credit", "codes", "list", "--all").stdout
    assert second not in table
    assert "5,000 tokens of gpt-4o-mini" in table
    assert "5,000 tokens of gpt-4o-mini more" in run("credit", "redeem", made["code"]).stdout
    assert say("credit", "balance")["tokens"] == {"gpt-4o-mini": 5_000}


def test_a_new_account_of_a_prepaid_gateway_begins_with_credit(data: Path, say: Say) -> None:
    assert say("accounts", "create", "acme")["prepaid"] is True
    assert say("credit", "balance", "--account", "acme")["left"] == 5 * USD
    assert say("accounts", "create", "partner", "--postpaid")["prepaid"] is False
    say("credit", "top-up", "100", "--account", "acme", "--reference", "acme-1")
    assert [row["tier"] for row in say("accounts", "list")] == ["free", "tier3", ""]
    assert say("credit", "balance")["left"] == 5 * USD


def test_tiers_are_listed_shown_and_chosen(data: Path, say: Say, run: Run) -> None:
    rows = say("tiers", "list")
    assert [row["name"] for row in rows] == ["free", "tier1", "tier2", "tier3", "tier4", "tier5"]
    assert (rows[0]["rpm"], rows[0]["rpd"], rows[0]["tpm"], rows[0]["cap"]) == (3, 200, 40_000, 100 * USD)
    table = run("tiers", "list").stdout
    assert "$50000.00" in table
    assert "450,000" in table
    assert say("tiers", "show", "tier2") == rows[2]
    assert "5,000 requests/min, 450,000 tokens/min" in run("tiers", "show", "tier2").stdout
    assert say("tiers", "set", "default", "tier3")["tier_fixed"] is True
    assert [row["amount"] for row in say("budgets", "list")] == [1_000 * USD] * 2
    assert say("tiers", "next")["next_tier"] == ""
    assert "none that it could earn" in run("tiers", "next").stdout
    assert "until it has paid" in run("tiers", "set", "default", "tier1", "--promote").stdout
    assert say("tiers", "set", "default", "none")["tier"] == ""
    assert say("budgets", "list") == []


def test_the_tiers_are_those_of_the_last_server(data: Path, say: Say, run: Run) -> None:
    row = {
        "name": "gold",
        "paid": 10,
        "days": 3,
        "rpm": 7,
        "queue_ms": 1500,
        "models": [{"model": "o3", "rpm": 2}],
    }
    from headgate.money.tiers import TierRow

    with closing(connect(data)) as sql:
        tiers = load_tiers([msgspec.convert(row, TierRow)])
        put_terms(sql, 1, terms_of(ModeSettings(name="prepaid")), tiers, SystemClock().wall())
    assert [found["name"] for found in say("tiers", "list")][:3] == ["free", "tier1", "gold"]
    gold = say("tiers", "show", "gold")
    assert (gold["rpm"], gold["models"][0]["model"], gold["models"][0]["rpm"]) == (7, "o3", 2)
    shown = run("tiers", "show", "gold").stdout
    for text in ("$10.00 paid, 3 days ago", "waits 1.5 s", "for o3", "2 requests/min"):
        assert text in shown
    assert "o3" in run("tiers", "list").stdout


def test_wishes_are_listed_and_decided(data: Path, say: Say, run: Run) -> None:
    with closing(SqlAdminStore(data)) as store:
        desk = Desk(store, SystemClock())
        first, second = (
            request_limits(LOCAL, desk, LimitRequestOrder(wanted=wanted, reason="发布"))
            for wanted in ({"tier": "tier2"}, {"rpm": 50, "model": "o3"})
        )
    assert "rpm 50, model o3" in run("tiers", "requests").stdout
    assert len(say("tiers", "requests", "--account", "default")) == 2
    assert say("tiers", "approve", first.id)["status"] == "approved"
    assert say("accounts", "show", "default")["tier"] == "tier2"
    assert "Refused" in run("tiers", "refuse", second.id).stdout
    assert run("tiers", "requests").stdout == "No requests.\n"
    assert [row["status"] for row in say("tiers", "requests", "--all")] == ["approved", "refused"]
    assert run("tiers", "approve", second.id).exit_code == 1


def test_there_may_be_nothing_to_list(data: Path, say: Say, run: Run) -> None:
    assert say("credit", "payments") == say("credit", "payments", "--last", "250") == []
    assert run("credit", "payments").stdout == "No payments.\n"
    assert run("credit", "codes", "list").stdout == "No codes.\n"
    assert run("accounts", "create", "b", "--postpaid").exit_code == 0
    assert run("credit", "grants", "--account", "b").stdout == "No credit.\n"
    assert run("credit", "history", "--account", "b").stdout == "Nothing.\n"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("credit", "top-up", "20"), 2, "--reference"),
        (("credit", "top-up", "4.99", "--reference", "x"), 1, "at least $5.00"),
        (("credit", "top-up", "x", "--reference", "x"), 2, "amount"),
        (("credit", "top-up", "20", "--reference", "x", "--account", "none"), 1, "There is no account"),
        (("credit", "gift"), 1, "either an amount"),
        (("credit", "gift", "5", "--tokens", "5", "--model", "m"), 1, "either an amount"),
        (("credit", "gift", "--tokens", "5"), 1, "Tokens are of a model"),
        (("credit", "gift", "5", "--days", "99999"), 1, "valid_days"),
        (("credit", "refund", "5"), 2, "--reference"),
        (("credit", "refund", "0", "--reference", "x"), 1, "amount"),
        (("credit", "adjust", "grant_none", "--add", "1", "--note", "x"), 1, "There is no grant"),
        (("credit", "adjust", "grant_none", "--note", "x"), 2, "one of --add and --take"),
        (("credit", "adjust", "grant_none", "--add", "1", "--take", "1", "--note", "x"), 2, "one of"),
        (("credit", "adjust", "grant_none", "--add", "x", "--note", "x"), 2, "amount"),
        (("credit", "adjust", "grant_none", "--add", "1"), 2, "--note"),
        (("credit", "redeem", "HG-NONE"), 1, "There is no such code"),
        (("credit", "codes", "create"), 1, "either an amount"),
        (("credit", "codes", "create", "5", "--count", "0"), 2, "--count"),
        (("credit", "codes", "create", "5", "--expires", "soon"), 2, "length of time"),
        (("credit", "codes", "revoke", "code_none"), 1, "There is no code"),
        (("credit", "balance", "--account", "none"), 1, "There is no account"),
        (("credit", "history", "--last", "0"), 2, "--last"),
        (("tiers", "show", "gold"), 1, "'gold' is no tier: free"),
        (("tiers", "set", "default", "gold"), 1, "is no tier"),
        (("tiers", "set", "none", "free"), 1, "There is no account"),
        (("tiers", "approve", "limreq_none"), 1, "There is no request"),
        (("tiers", "next", "--account", "none"), 1, "There is no account"),
    ],
)
def test_what_is_wrong_is_told(
    data: Path, run: Run, arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert said in result.stderr
