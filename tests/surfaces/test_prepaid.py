"""`headgate serve --mode prepaid`, as a process: credit is spent, runs out, expires in mid-call, survives a kill."""

import concurrent.futures
import json
import random
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.stores.books import figures
from tests.surfaces.conftest import Gateway

from headgate.errors import Conflict
from headgate.ops.actors import LOCAL
from headgate.ops.credit import RefundOrder, TopUpOrder, refund, top_up
from headgate.ops.desk import Desk
from headgate.ports import SystemClock
from headgate.records import GrantRecord, PostingRecord
from headgate.stores.sql.admin import SqlAdminStore
from headgate.stores.sql.check import check
from headgate.stores.sql.credit import SqlCredit
from headgate.stores.sql.database import connect
from headgate.values import Book

COST = 1_950  # nano-USD of the call below: 9 tokens in, 1 out
HOLD = 100_000  # more than it may cost
NO_GIFT = '[mode]\nname = "prepaid"\nsignup_usd = 0\ntier = ""\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "headgate.toml").write_text(NO_GIFT)
    return tmp_path


@pytest.fixture
def gateway(folder: Path) -> Iterator[Gateway]:
    made = start(folder)
    yield made
    made.stop(signal.SIGKILL)


def start(folder: Path, workers: int = 1, **environment: str) -> Gateway:
    return Gateway(folder, "--config", "headgate.toml", "--workers", str(workers), **environment)


def give(data: Path, amount: int, *, seconds: float = 0.0, model: str = "", book: Book = Book.SIM) -> None:
    """Make a grant, in play money if nothing else is said, as `ops.credit.give` does, with an expiry in seconds."""
    with closing(connect(data)) as sql, sql:
        sql.execute("BEGIN IMMEDIATE")
        now = SystemClock().wall()
        (account,) = sql.execute("SELECT public_id FROM accounts").fetchone()
        reference = f"gift:{now}"
        until = now + int(seconds * 1e6) if seconds else 0
        grant = GrantRecord(account=account, book=book, kind="gift", model=model, expires_at=until)
        money, tokens = (0, amount) if model else (amount, 0)
        SqlCredit(sql).give(
            grant,
            PostingRecord(
                account=account,
                book=book,
                kind="grant",
                amount=money,
                tokens=tokens,
                reference=reference,
                at=now,
            ),
        )


def call(gateway: Gateway, key: str, **directives: int) -> tuple[int, dict]:
    """Make a call of the cost above; return the status and the body."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}], "max_tokens": 100}
    wish = "; ".join(f"{name}={value}" for name, value in directives.items())
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json", "x-headgate-sim": wish}
    request = urllib.request.Request(
        f"{gateway.base}/chat/completions",
        json.dumps(body).encode(),
        headers if wish else headers | {"x-headgate-sim": "delay_ms=0"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def play_key(gateway: Gateway) -> str:
    """Make a key that spends play money, and wait until the server knows it."""
    key = gateway.command("keys", "create", "--name", "t", "--kind", "test").stdout.strip().splitlines()[0]
    deadline = time.monotonic() + 20
    while call(gateway, key)[0] == 401:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return key


def wait_for(data: Path, question: str, answer: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while figures(data, question)[0][0] != answer:
        assert time.monotonic() < deadline, figures(data, question)
        time.sleep(0.05)


def findings(data: Path) -> list[str]:
    return [finding.detail for finding in check(data, SystemClock().wall()).findings]


def test_without_credit_nothing_is_served_and_with_credit_exactly_what_it_covers(gateway: Gateway) -> None:
    key = play_key(gateway)
    status, body = call(gateway, key)
    assert (status, body["error"]["type"], body["error"]["code"]) == (
        429,
        "insufficient_quota",
        "insufficient_quota",
    )
    give(gateway.data, HOLD)
    wait_until_served(gateway, key)
    give(gateway.data, 1_000, model="gpt-4o-mini")
    time.sleep(1.0)
    statuses = [call(gateway, key)[0] for _ in range(3)]
    assert statuses == [200, 200, 200]
    assert gateway.stop()[0] == 0
    assert findings(gateway.data) == []
    spent = figures(gateway.data, "SELECT kind, spent FROM pots WHERE kind <> 'budget' ORDER BY id")
    assert spent == [("grant", COST), ("tokens", 30)]  # the tokens are spent first


def wait_until_served(gateway: Gateway, key: str) -> None:
    deadline = time.monotonic() + 20
    while call(gateway, key)[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_open(gateway: Gateway) -> None:
    """Wait until a call is open, and a little longer, for what it holds."""
    deadline = time.monotonic() + 20
    while open_calls(gateway) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)


def open_calls(gateway: Gateway) -> float:
    with urllib.request.urlopen(gateway.base.removesuffix("/v1") + "/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("headgate_open_calls"))


def test_a_call_that_is_open_when_its_grant_expires_is_charged_to_it(gateway: Gateway) -> None:
    key = play_key(gateway)
    give(gateway.data, 2 * HOLD, seconds=3.0)
    wait_until_served(gateway, key)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        opened = pool.submit(call, gateway, key, delay_ms=6_000)
        time.sleep(3.2)
        assert call(gateway, key)[0] == 429  # after its expiry the grant covers nothing
        assert figures(gateway.data, "SELECT closed_at FROM grants") == [(0,)]  # and still waits for the call
        assert opened.result()[0] == 200
    wait_for(gateway.data, "SELECT closed_at > 0 FROM grants", 1)
    assert gateway.stop()[0] == 0
    assert findings(gateway.data) == []
    assert figures(gateway.data, "SELECT kind, amount FROM postings ORDER BY seq") == [
        ("grant", 2 * HOLD),
        ("expiry", 2 * COST - 2 * HOLD),
    ]


@pytest.mark.parametrize("place", ["expiry-before-commit", "expiry-after-commit"])
def test_a_kill_in_the_middle_of_booking_an_expiry_books_it_once(folder: Path, place: str) -> None:
    gateway = start(folder, HEADGATE_FAILPOINTS=f"{place}=kill")
    key = play_key(gateway)
    give(gateway.data, HOLD, seconds=4.0)  # served well before, on a busy machine too
    wait_until_served(gateway, key)
    assert gateway.process.wait(timeout=20) == -signal.SIGKILL
    gateway.stop()
    again = start(folder)
    wait_for(again.data, "SELECT closed_at > 0 FROM grants", 1)
    assert again.stop()[0] == 0
    assert findings(again.data) == []
    assert figures(again.data, "SELECT amount FROM postings WHERE kind = 'expiry'") == [(COST - HOLD,)]


def test_a_killed_server_loses_no_credit_and_the_house_pays_what_it_cannot_know(folder: Path) -> None:
    gateway = start(folder)
    key = play_key(gateway)
    give(gateway.data, 3 * HOLD)
    wait_until_served(gateway, key)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        opened = pool.submit(call, gateway, key, delay_ms=20_000)
        wait_until_open(gateway)
        gateway.stop(signal.SIGKILL)
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            opened.result()
    again = start(folder)
    assert "1 by estimate" in again.said
    assert call(again, key)[0] == 200
    assert again.stop()[0] == 0
    assert findings(again.data) == []
    assert figures(again.data, "SELECT spent FROM pots WHERE kind = 'grant'") == [(2 * COST,)]
    assert figures(again.data, "SELECT sum(absorbed) > 0 FROM calls") == [(1,)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_refund_takes_from_running_workers_what_they_do_not_hold(folder: Path, workers: int) -> None:
    gateway = start(folder, workers=workers)
    key = play_key(gateway)
    with closing(SqlAdminStore(gateway.data)) as store:
        desk = Desk(store, SystemClock())
        paid = 5_000_000_000
        top_up(LOCAL, desk, TopUpOrder(amount=paid, reference="a", book=Book.SIM))
        wait_until_served(gateway, key)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            opened = pool.submit(call, gateway, key, delay_ms=6_000)
            wait_until_open(gateway)
            with pytest.raises(Conflict, match="held by open calls"):
                refund(LOCAL, desk, RefundOrder(amount=paid - COST, reference="all", book=Book.SIM))
            refund(LOCAL, desk, RefundOrder(amount=paid - HOLD, reference="most", book=Book.SIM))
            assert opened.result()[0] == 200  # what it held was left to it
    assert gateway.stop()[0] == 0
    assert findings(gateway.data) == []
    assert figures(gateway.data, "SELECT amount - spent FROM pots WHERE kind = 'grant'") == [
        (HOLD - 2 * COST,)
    ]


@pytest.mark.parametrize("workers", [1, 4])
def test_a_grant_that_expires_in_mid_round_is_spent_to_the_last_call_and_no_further(
    folder: Path, workers: int
) -> None:
    gateway = start(folder, workers=workers)
    key = play_key(gateway)
    chance = random.Random(workers)
    served = 0
    for _ in range(2):
        give(gateway.data, chance.randrange(HOLD, 20 * HOLD), seconds=2.0)
        give(gateway.data, chance.randrange(10 * COST, 3 * HOLD))
        time.sleep(0.7)
        with concurrent.futures.ThreadPoolExecutor(60) as pool:
            delays = [chance.randrange(1_600) for _ in range(80)]
            done = list(pool.map(lambda delay: call(gateway, key, delay_ms=delay)[0], delays))
        assert set(done) <= {200, 429, 503}  # 503: the books did not answer in time, on a busy machine
        served += done.count(200)
    wait_for(gateway.data, "SELECT count(*) FROM grants WHERE closed_at > 0", 2)
    while call(gateway, key)[0] == 200:  # the rest is spendable, wherever it lies
        served += 1
    assert gateway.stop()[0] == 0
    assert findings(gateway.data) == []
    assert figures(gateway.data, "SELECT count(*), sum(charge) FROM calls WHERE status = 200") == [
        (served, served * COST)
    ]
    spent = figures(gateway.data, "SELECT sum(spent), min(amount - spent) FROM pots WHERE kind = 'grant'")
    assert spent[0][0] == served * COST
    assert spent[0][1] >= 0
    left = figures(
        gateway.data,
        "SELECT sum(p.amount - p.spent) FROM pots p JOIN grants g ON g.id = p.ref WHERE g.expires_at = 0",
    )
    assert left[0][0] < HOLD  # no call fits any more


def test_the_banner_says_the_mode(tmp_path: Path) -> None:
    for args, said in (
        ([], "Mode: internal; no credit needed"),
        (
            ["--mode", "prepaid"],
            "Mode: prepaid; accounts spend credit, and begin with $5.00 for 90 days",
        ),
    ):
        gateway = Gateway(tmp_path / (args[-1] if args else "plain"), *args)
        assert said in gateway.said
        assert call(gateway, gateway.key)[0] == 200  # by the simulator, in play money
        assert gateway.stop()[0] == 0
        assert findings(gateway.data) == []
