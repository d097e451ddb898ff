"""The two modes: who needs credit, and what a start does about it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.stores.books import make
from tests.stores.grants import DAY, USD
from tests.stores.records import CLOCK, START

from headgate.config import ServeOptions, load
from headgate.money.terms import DEFAULT_TERMS, ModeSettings, Terms, terms_of
from headgate.money.tiers import load_tiers
from headgate.records import KeyRow
from headgate.settings.upstreams import ConfigError
from headgate.stores.sql.check import check
from headgate.stores.sql.database import connect, last_change
from headgate.stores.sql.directory import Directory
from headgate.stores.sql.postings import promote_due
from headgate.stores.sql.terms import kept_terms, put_terms

TIERS = load_tiers()


def only_key(sql: sqlite3.Connection) -> KeyRow:
    (digest,) = sql.execute("SELECT digest FROM keys").fetchone()
    found = Directory(sql).get(digest)
    assert found is not None
    return found


PREPAID = Terms(True, 5 * USD, 90, 5 * USD, "free")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(tmp_path)


@pytest.fixture
def sql(data: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(data)) as made:
        yield made


def test_prepaid_gives_the_default_account_credit_in_both_books_once(
    data: Path, sql: sqlite3.Connection
) -> None:
    for _ in range(2):
        put_terms(sql, 1, PREPAID, TIERS, START)
    found = sql.execute(
        "SELECT g.book, g.kind, expires_at, amount FROM grants g JOIN pots p ON p.ref = g.id"
    ).fetchall()
    until = START + 90 * DAY
    assert found == [(0, "signup", until, 5 * USD), (1, "signup", until, 5 * USD)]
    key = only_key(sql)
    assert (key.prepaid, key.tier) == (True, "free")
    caps = sql.execute("SELECT book, amount, unit, origin FROM budgets").fetchall()
    assert caps == [(0, 100 * USD, "month", "tier"), (1, 100 * USD, "month", "tier")]
    assert check(data, CLOCK.wall()).findings == []


def test_internal_needs_no_credit_and_keeps_what_was_granted(data: Path, sql: sqlite3.Connection) -> None:
    put_terms(sql, 1, PREPAID, TIERS, START)
    put_terms(sql, 1, Terms(), TIERS, START)
    assert not only_key(sql).prepaid
    put_terms(sql, 1, PREPAID, TIERS, START + DAY)  # and back: nothing is given twice
    assert sql.execute("SELECT count(*) FROM postings").fetchone() == (2,)
    assert check(data, CLOCK.wall()).findings == []


def test_a_start_in_the_same_mode_changes_nothing(sql: sqlite3.Connection) -> None:
    put_terms(sql, 1, Terms(), TIERS, START)
    assert last_change(sql) == 0


def test_commands_know_the_terms_of_the_last_server(sql: sqlite3.Connection) -> None:
    assert kept_terms(sql) == (DEFAULT_TERMS, TIERS)
    own = Terms(True, USD, 7, 2 * USD, "tier1")
    put_terms(sql, 1, own, TIERS[1:], START)
    assert kept_terms(sql) == (own, TIERS[1:])
    sql.execute("UPDATE meta SET value = '[1]' WHERE name = 'tiers'")  # of another version
    assert kept_terms(sql) == (DEFAULT_TERMS, TIERS)


def test_a_tier_that_was_chosen_stays(sql: sqlite3.Connection) -> None:
    sql.execute("UPDATE accounts SET tier = 'tier4', tier_fixed = 1")
    put_terms(sql, 1, PREPAID, TIERS, START)
    assert only_key(sql).tier == "tier4"
    assert sql.execute("SELECT count(*) FROM budgets").fetchone() == (0,)


def test_an_account_is_promoted_when_it_has_waited_long_enough(sql: sqlite3.Connection, data: Path) -> None:
    from tests.stores.grants import Credit

    slow = tuple(tier if tier.name != "tier2" else _after(tier, 7) for tier in TIERS)
    put_terms(sql, 1, PREPAID, slow, START)
    credit = Credit(data)
    credit.top_up(60 * USD)
    credit.close()
    (paid,) = sql.execute("SELECT first_paid_at FROM accounts").fetchone()
    assert promote_due(sql, slow, paid) == 1
    assert promote_due(sql, slow, paid + 6 * DAY) == 0
    assert promote_due(sql, slow, paid + 8 * DAY) == 1
    assert only_key(sql).tier == "tier2"
    assert sql.execute("SELECT amount FROM budgets WHERE book = 0").fetchone() == (500 * USD,)
    said = sql.execute("SELECT kind FROM events UNION ALL SELECT action FROM audit").fetchall()
    assert said == [("tier.promoted",)] * 4
    assert promote_due(sql, TIERS, paid + 9 * DAY) == 0  # no tier asks for days


def _after(tier, days: int):
    import msgspec

    return msgspec.structs.replace(tier, days=days)


def test_the_settings_say_the_terms(tmp_path: Path) -> None:
    assert terms_of(ModeSettings()) == Terms(False, 5 * USD, 90, 5 * USD, "free")
    assert load(ServeOptions(env_file="", mode="prepaid"), {}).terms == PREPAID
    file = tmp_path / "headgate.toml"
    file.write_text('[mode]\nname = "prepaid"\nsignup_usd = 0.5\nsignup_days = 0\ntier = ""\n')
    terms = load(ServeOptions(env_file="", config=str(file)), {}).terms
    assert terms == Terms(True, USD // 2, 0, 5 * USD, "")
    assert terms.signup_until(START) == 0


@pytest.mark.parametrize(
    "line", ["signup_usd = -1", "signup_days = -1", 'tier = "gold"', "minimum_usd = 1e30"]
)
def test_terms_that_cannot_be_are_refused_by_name(tmp_path: Path, line: str) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text(f"[mode]\n{line}\n")
    with pytest.raises(ConfigError, match=r"mode\." + line.partition(" ")[0]):
        load(ServeOptions(env_file="", config=str(file)), {})
