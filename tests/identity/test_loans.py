"""Lent keys: what they hold comes back, and nothing else passes for one."""

from __future__ import annotations

import hmac

import pytest

from headgate.identity.loans import Loan, lend, read_loan

LOAN = Loan(b"d" * 32, 1_800_000_000, b'{"model":"gpt-realtime","instructions":"' + b"x" * 2_000 + b'"}')


def mac(pepper: bytes = b"pepper") -> hmac.HMAC:
    return hmac.new(pepper, digestmod="sha256")


def test_what_is_lent_comes_back_and_fits_into_a_header() -> None:
    token = lend(mac(), LOAN)
    assert read_loan(mac(), token) == LOAN
    assert token.startswith(b"ek_")
    assert len(token) < 400
    assert token.replace(b"-", b"").replace(b"_", b"").isalnum(), "it may be a subprotocol"


@pytest.mark.parametrize("change", range(0, 60, 7))
def test_a_changed_one_is_none(change: int) -> None:
    token = bytearray(lend(mac(), LOAN))
    token[3 + change] = ord("A") if token[3 + change] != ord("A") else ord("B")
    assert read_loan(mac(), bytes(token)) is None


@pytest.mark.parametrize("token", [b"ek_", b"ek_!", b"ek_abcd", b"", b"ek_" + b"A" * 5_000])
def test_what_nobody_lent_is_none(token: bytes) -> None:
    assert read_loan(mac(), token) is None


def test_another_gateways_is_none() -> None:
    assert read_loan(mac(b"other"), lend(mac(), LOAN)) is None
