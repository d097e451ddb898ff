import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, strategies as st

from headgate.errors import AuthenticationFailed, CallerError, PermissionRefused, Unavailable
from headgate.identity import keys
from headgate.identity.keys import KINDS, Keyring, mint, mint_key, well_formed
from headgate.records import KeyRow
from headgate.values import Book, Ceiling, Principal

PEPPER = bytes(range(32))


@dataclass(frozen=True)
class Row:
    digest: bytes
    row: KeyRow


def ring(*rows: Row) -> Keyring:
    return Keyring(PEPPER, {row.digest: row.row for row in rows})


def stored(kind: keys.Kind = "live", **fields: object) -> tuple[str, Row]:
    key = mint_key(PEPPER, kind)
    return key.text, Row(key.digest, KeyRow(**{"key": 1, "project": 2, "account": 3, "kind": kind, **fields}))


def refusal(keyring: Keyring, token: str | bytes | None, now: int = 1) -> CallerError:
    with pytest.raises(CallerError) as caught:
        keyring.authenticate(token, now)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_a_minted_key_has_its_prefix_43_random_characters_and_a_checksum(kind: keys.Kind) -> None:
    token = mint(kind)
    prefix = keys.PREFIXES[kind]
    assert token.startswith(prefix)
    assert len(token) == len(prefix) + 49
    assert token[len(prefix) :].isalnum()
    assert well_formed(token)
    assert well_formed(token.encode())
    assert mint(kind) != token


def test_every_changed_character_breaks_the_checksum() -> None:
    token = mint("live")
    for at in range(len(token)):
        other = "A" if token[at] != "A" else "B"
        assert not well_formed(token[:at] + other + token[at + 1 :]), at


def test_who_cannot_be_asked_about_is_never_called_wrong() -> None:
    known, row = stored()
    other, _ = stored()
    trust = keys.Trust.FULL
    keyring = Keyring(PEPPER, {row.digest: row.row}, trust=lambda: trust)
    assert refusal(keyring, other).status == 401
    trust = keys.Trust.KNOWN
    assert keyring.authenticate(known, 1).key == 1
    with pytest.raises(Unavailable, match="its database does not answer"):
        keyring.authenticate(other, 1)
    assert refusal(keyring, "sk-hg-live-junk").status == 401  # no database knows better
    trust = keys.Trust.NONE
    assert keyring.authenticate(known, 1).key == 1  # this ring has it; the next one does not
    for token in (known, other):
        with pytest.raises(Unavailable):
            Keyring(PEPPER, {row.digest: row.row}, trust=lambda: trust).authenticate(token, 1)


@given(st.text() | st.binary())
def test_junk_is_never_well_formed_and_never_raises(junk: str | bytes) -> None:
    assert not well_formed(junk)
    assert len(keys.mask(junk)) <= 10


def test_a_valid_key_is_its_principal() -> None:
    token, row = stored()
    keyring = ring(row)
    principal = keyring.authenticate(token, 1)
    assert principal == Principal(key=1, project=2, account=3)
    assert keyring.authenticate(token.encode(), 1) is principal


def test_a_test_key_spends_play_money() -> None:
    token, row = stored("test")
    assert ring(row).authenticate(token, 1).book is Book.SIM


def test_a_digest_depends_on_the_pepper_and_is_no_credential() -> None:
    token, row = stored()
    assert keys.digest(bytes(32), token) != row.digest
    assert refusal(ring(row), row.digest).code == "invalid_api_key"
    assert refusal(ring(row), row.digest.hex()).code == "invalid_api_key"


@pytest.mark.parametrize("token", [None, "", b""])
def test_no_key_is_told_how_to_send_one(token: str | bytes | None) -> None:
    error = refusal(ring(), token)
    assert isinstance(error, AuthenticationFailed)
    assert (error.http_status, error.error_type, error.code) == (401, "invalid_request_error", None)
    assert error.message.startswith("You didn't provide an API key. You need to provide your API key in an ")
    assert "headgate keys create" in error.message


def test_an_unknown_key_is_incorrect_and_masked() -> None:
    token = mint("live")
    error = refusal(ring(), token)
    assert (error.http_status, error.code, error.param) == (401, "invalid_api_key", None)
    assert error.message.startswith(f"Incorrect API key provided: sk-hg***{token[-2:]}. ")
    assert "One that was just made is known within a second." in error.message
    assert token[6:-2] not in error.message
    assert "openai.com" not in error.message


def test_a_cut_off_key_is_told_so() -> None:
    assert "mistyped or cut off" in refusal(ring(), mint("live")[:-1]).message


@pytest.mark.parametrize("token", ["sk-proj-" + "a" * 40, "sk-" + "b" * 48, "AIza" + "c" * 35])
def test_a_providers_key_is_told_to_send_ours(token: str) -> None:
    message = refusal(ring(), token).message
    assert "provider's key" in message
    assert "sk-hg-" in message
    assert token not in message


def test_an_expired_key_is_refused_from_its_instant_on() -> None:
    token, row = stored(ceiling=Ceiling(expires_at=1000))
    assert ring(row).authenticate(token, 999).expires_at == 1000
    assert "expired" in refusal(ring(row), token, 1000).message


def test_a_revoked_key_is_refused() -> None:
    token, row = stored(revoked=True)
    error = refusal(ring(row), token)
    assert "revoked" in error.message
    assert error.code == "invalid_api_key"


def test_an_admin_key_makes_no_calls() -> None:
    token, row = stored("admin")
    error = refusal(ring(row), token)
    assert isinstance(error, PermissionRefused)
    assert "admin key" in error.message


@pytest.mark.parametrize(
    ("authorization", "api_key", "x_api_key", "token"),
    [
        (b"Bearer k", None, None, b"k"),
        (b"bearer k", None, None, b"k"),
        (b"BEARER   k ", None, None, b"k"),
        (None, b"k", None, b"k"),
        (None, None, b"k", b"k"),
        (b"Bearer k", b"k", b" k", b"k"),
        (b"Basic dTpw", None, b"k", b"k"),
        (b"Basic dTpw", None, None, None),
        (b"Bearer ", None, None, None),
        (b"Bearer", None, None, None),
        (b"", b"", None, None),
        (None, None, None, None),
    ],
)
def test_a_key_is_found_however_it_is_presented(
    authorization: bytes | None, api_key: bytes | None, x_api_key: bytes | None, token: bytes | None
) -> None:
    assert Keyring.extract(authorization, api_key, x_api_key) == token


@pytest.mark.parametrize(
    "headers", [(b"Bearer a", b"b", None), (None, b"a", b"b"), (b"bearer a", None, b"b")]
)
def test_two_different_keys_are_a_400(headers: tuple[bytes | None, bytes | None, bytes | None]) -> None:
    with pytest.raises(CallerError) as caught:
        Keyring.extract(*headers)
    assert caught.value.http_status == 400


def test_what_people_see_of_a_key_is_its_prefix_and_ends() -> None:
    token = mint("live")
    assert keys.shown(token) == f"sk-hg-live-{token[11:13]}…{token[-4:]}"


@pytest.mark.parametrize(
    ("token", "masked"),
    [
        ("sk-abcdefghijklmnopyz", "sk-ab***yz"),
        ("short", "sh***"),
        ("", "***"),
        ("é\n" + "x" * 20, "??xxx***xx"),
    ],
)
def test_a_mask_shows_at_most_seven_characters(token: str, masked: str) -> None:
    assert keys.mask(token) == masked


def test_a_key_is_looked_up_in_a_few_steps_and_junk_in_fewer() -> None:
    token, row = stored()
    keyring, raw, now = ring(row), token.encode(), time.time_ns() // 1000
    header, wrong = b"Bearer " + raw, raw[:-1] + (b"A" if raw[-1:] != b"A" else b"B")
    keyring.authenticate(keyring.extract(header, None, None), now)
    valid = bytecodes(lambda: keyring.authenticate(keyring.extract(header, None, None), now))
    junk = bytecodes(lambda: well_formed(wrong))
    assert 0 < junk < valid < 250  # by the clock: make bench-keys


def bytecodes(run: Callable[[], object]) -> int:
    """Count what the interpreter executes, the same on any machine."""
    count = 0

    def entered(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return entered

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        run()
    finally:
        sys.settrace(before)
    return count
