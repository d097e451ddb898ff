"""Whether a key may call, by what it is and by what is behind it."""

import msgspec
import pytest

from headgate.errors import CallerError
from headgate.identity.standing import allow, ceiling_now, ended, halted, may_use, principal_of
from headgate.records import KeyRow
from headgate.values import Book, Ceiling, Principal

ROW = KeyRow(key=1, project=2, account=3)
MEMBERS = KeyRow(key=1, project=2, account=3, member=4, role="developer", project_role="member")


def but(row: KeyRow = ROW, **fields: object) -> KeyRow:
    return msgspec.structs.replace(row, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "status", "code"),
    [
        (but(revoked=True), 401, "invalid_api_key"),
        (but(kind="admin"), 403, "admin_key_refused"),
        (but(status="suspended"), 401, "account_deactivated"),
        (but(status="closed"), 401, "account_deactivated"),
        (but(archived=True), 401, "not_authorized_invalid_project"),
        (but(MEMBERS, removed=True), 401, "invalid_api_key"),
        (but(MEMBERS, project_role=""), 401, "invalid_api_key"),
        (but(MEMBERS, role="viewer", project_role=""), 401, "invalid_api_key"),
        (but(MEMBERS, role="service", role_in=9, project_role=""), 401, "invalid_api_key"),
    ],
)
def test_a_key_is_halted_by_what_is_behind_it(row: KeyRow, status: int, code: str) -> None:
    error = halted(row)
    assert error is not None
    assert (error.http_status, error.code, error.error_type) == (status, code, "invalid_request_error")


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        MEMBERS,
        but(MEMBERS, role="owner", project_role=""),
        but(MEMBERS, role="admin", project_role=""),
        but(MEMBERS, role="viewer", project_role="member"),
        but(MEMBERS, role="service", role_in=2, project_role=""),
    ],
)
def test_a_key_that_may_call(row: KeyRow) -> None:
    assert halted(row) is None


def test_an_old_secret_is_valid_until_its_grace_ends() -> None:
    assert principal_of(but(old_until=50), Ceiling()).expires_at == 50
    assert principal_of(but(old_until=50), Ceiling(expires_at=40)).expires_at == 40
    assert principal_of(but(old_until=50), Ceiling(expires_at=60)).expires_at == 50


def test_a_live_key_spends_play_money_where_the_simulator_answers_all() -> None:
    assert principal_of(ROW, Ceiling()).book is Book.REAL
    assert principal_of(ROW, Ceiling(), playing=True).book is Book.SIM
    assert principal_of(but(kind="test"), Ceiling()).book is Book.SIM


def test_what_a_key_may_is_what_its_makers_may_too() -> None:
    row = but(
        ceiling=Ceiling(models=("gpt-4o*", "o3"), rpm=100, expires_at=90),
        makers=(Ceiling(models=("*",), rpm=50), Ceiling(models=("gpt-*",), tpm=7, expires_at=80)),
    )
    assert ceiling_now(row) == Ceiling(models=("gpt-4o*",), rpm=50, tpm=7, expires_at=80)
    assert ceiling_now(but(ceiling=Ceiling(models=("a",)), makers=(Ceiling(models=("b",)),))) is None


PRINCIPAL = Principal(1, 2, 3, name="ci", project_id="proj_x", models=("gpt-4o*", "o3"), endpoints=("chat",))


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4o-mini", "o3"])
def test_a_call_within_what_the_key_may_passes(model: str) -> None:
    allow(PRINCIPAL, "chat", model)
    assert may_use(PRINCIPAL, model)


@pytest.mark.parametrize("model", ["gpt-4", "o3-mini", "openai/gpt-4o", "GPT-4o", "", "xgpt-4o", "o3\n"])
def test_another_model_is_refused_with_what_the_key_may_use(model: str) -> None:
    with pytest.raises(CallerError) as caught:
        allow(PRINCIPAL, "chat", model)
    error = caught.value
    assert (error.http_status, error.code, error.param) == (403, "model_not_found", None)
    assert error.message.startswith(f"Project `proj_x` does not have access to model `{model}`")
    assert "gpt-4o*, o3" in error.message
    assert "headgate keys change" in error.message


def test_another_endpoint_is_refused_with_those_that_the_key_may_use() -> None:
    with pytest.raises(CallerError) as caught:
        allow(PRINCIPAL, "embeddings", "gpt-4o")
    assert (caught.value.http_status, caught.value.code) == (403, "insufficient_permissions")
    assert "chat" in caught.value.message


@pytest.mark.parametrize(
    ("row", "principal", "now", "over"),
    [
        (None, Principal(1, 2, 3), 100, False),
        (None, Principal(1, 2, 3, expires_at=100), 99, False),
        (None, Principal(1, 2, 3, expires_at=100), 100, True),
        (ROW, Principal(1, 2, 3), 100, False),
        (but(revoked=True), Principal(1, 2, 3), 100, True),
        (but(status="suspended"), Principal(1, 2, 3), 100, True),
        (but(archived=True), Principal(1, 2, 3), 100, True),
        (but(ceiling=Ceiling(expires_at=100)), Principal(1, 2, 3), 100, True),
        (but(ceiling=Ceiling(expires_at=101)), Principal(1, 2, 3), 100, False),
        (
            but(ceiling=Ceiling(models=("a",)), makers=(Ceiling(models=("b",)),)),
            Principal(1, 2, 3),
            100,
            True,
        ),
        (but(rotated_at=60), Principal(1, 2, 3), 100, True),  # the call began at 50
        (but(rotated_at=60, old_until=101), Principal(1, 2, 3), 100, False),
        (but(rotated_at=60, old_until=100), Principal(1, 2, 3), 100, True),
        (but(rotated_at=40), Principal(1, 2, 3), 100, False),
    ],
)
def test_a_running_call_ends_with_its_key(
    row: KeyRow | None, principal: Principal, now: int, over: bool
) -> None:
    assert (ended(row, principal, 50, now) is not None) is over
