"""Stripe's webhooks against a running server: whatever comes at once, money comes once."""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.admin.stripes import SECRET, session, signature, wrapped
from tests.surfaces.conftest import Gateway

DOLLAR = 1_000_000_000
CONFIG = f"""
[mode]
name = "prepaid"

[payments]
stripe_secret = "{SECRET}"
"""


class Shop:
    """A gateway that takes payments, and its account."""

    def __init__(self, gateway: Gateway) -> None:
        self.address = urlsplit(gateway.base).netloc
        self.gateway = gateway
        said = gateway.command("keys", "create", "--name", "root", "--kind", "admin", "--json")
        self.key = next(word for word in said.stdout.split('"') if word.startswith("sk-hg-adm-"))
        self.account = self.get("/admin/v1/accounts")["data"][0]["id"]

    def get(self, path: str) -> Any:
        return self._send("GET", path, b"", {"authorization": f"Bearer {self.key}"})[1]

    def deliver(self, payload: bytes, header: str) -> int:
        return self._send("POST", "/admin/v1/webhooks/stripe", payload, {"stripe-signature": header})[0]

    def _send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.request(method, path, body, {"content-type": "application/json", **headers})
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()

    def balance(self) -> int:
        grants = self.get("/admin/v1/credit/grants?limit=100")["data"]
        return sum(
            grant["amount"] for grant in grants if (grant["kind"], grant["book"]) == ("balance", "real")
        )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder: Path = tmp_path_factory.mktemp("shop")
    (folder / "headgate.toml").write_text(CONFIG)
    gateway = Gateway(folder, "--config", "headgate.toml")
    yield Shop(gateway)
    checked = gateway.command("ledger", "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    code, _, err = gateway.stop()
    assert (code, err) == (0, "")


def test_200_deliveries_of_one_event_are_one_credit(shop: Shop) -> None:
    payload = session(shop.account, 2_500, "evt_race")
    header, before = signature(payload, time.time()), shop.balance()
    with ThreadPoolExecutor(40) as pool:
        said = Counter(pool.map(lambda _: shop.deliver(payload, header), range(200)))
    assert set(said) <= {200, 409}  # 409: it is being handled; Stripe comes again
    assert said[200] >= 1
    assert shop.deliver(payload, header) == 200
    assert shop.balance() - before == 25 * DOLLAR
    assert [
        row["outcome"] for row in shop.get("/admin/v1/payments")["data"] if row["event"] == "evt_race"
    ] == ["booked"]


def test_events_that_report_one_payment_are_one_credit(shop: Shop) -> None:
    payment = {"payment_intent": "pi_shared"}
    payloads = [session(shop.account, 700, f"evt_shared_{number}", **payment) for number in range(20)]
    intent = {
        "id": "pi_shared", "amount_received": 700, "currency": "usd",
        "metadata": {"headgate_account": shop.account},
    }  # fmt: skip
    payloads.append(wrapped("payment_intent.succeeded", intent, "evt_shared_intent"))
    before = shop.balance()
    with ThreadPoolExecutor(20) as pool:
        said = list(
            pool.map(lambda payload: shop.deliver(payload, signature(payload, time.time())), payloads)
        )
    assert set(said) <= {200, 409}
    assert shop.balance() - before == 7 * DOLLAR


def test_forgeries_among_them_move_nothing(shop: Shop) -> None:
    payload, before = session(shop.account, 9_900, "evt_forged"), shop.balance()
    forged = [
        (payload, ""),
        (payload, signature(payload, time.time(), "whsec_" + "x" * 36)),
        (payload, signature(payload, time.time() - 400)),
        (payload + b"\n", signature(payload, time.time())),
        (payload.replace(b"9900", b"9901"), signature(payload, time.time())),
        (json.dumps(json.loads(payload)).encode(), signature(payload, time.time())),
        (b"\xff" + payload, signature(payload, time.time())),
    ]
    with ThreadPoolExecutor(20) as pool:
        said = set(pool.map(lambda delivery: shop.deliver(*delivery), forged * 8))
    assert said == {400}
    assert shop.balance() == before
