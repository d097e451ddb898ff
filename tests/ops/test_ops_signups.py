"""Sign-up by e-mail: one account per address, and nobody learns which addresses have one."""

import re
from contextlib import closing
from pathlib import Path

import pytest
from tests.ops.fakes import HandClock, join, opened_desk
from tests.ops.test_ops_credit import ALL, DAY, USD, race

from headgate.errors import CallerError, NotFound, PermissionRefused, Unavailable
from headgate.identity.keys import digest
from headgate.money.terms import Terms
from headgate.ops.accounts import list_accounts
from headgate.ops.actors import LOCAL
from headgate.ops.credit import credit_standing
from headgate.ops.desk import Desk
from headgate.ops.keys import list_keys
from headgate.ops.signin import actor_of_key
from headgate.ops.signups import MOST_MAILS, NewAccount, SignUpOrder, list_signups, sign_up, verify_email
from headgate.ports import Mail
from headgate.records import KeyRecord
from headgate.stores.sql.check import check
from headgate.stores.sql.database import connect
from headgate.stores.sql.terms import put_terms

LINK = "https://gate.example/verify?token={token}"


class Letterbox:
    """Keeps mail instead of sending it."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []

    def send(self, mail: Mail) -> None:
        self.mails.append(mail)

    @property
    def token(self) -> str:
        found = re.search(r"token=(\S+)", self.mails[-1].text)
        assert found is not None
        return found[1]


class BrokenMailer:
    def send(self, mail: Mail) -> None:
        raise Unavailable("no mail today")


@pytest.fixture
def box() -> Letterbox:
    return Letterbox()


@pytest.fixture(autouse=True)
def _prepaid(desk: Desk, tmp_path: Path) -> None:
    serve_prepaid(tmp_path)


def serve_prepaid(folder: Path) -> None:
    with closing(connect(folder)) as sql:
        put_terms(sql, 1, Terms(prepaid=True), (), 0)


def ask(desk: Desk, box: Letterbox, email: str = "Wang@Example.org", name: str = "") -> None:
    answer = sign_up(desk, box, SignUpOrder(email=email, name=name), LINK)
    assert answer.email == email.strip().lower()


def test_a_verified_address_has_an_account_with_credit_and_keys(
    desk: Desk, box: Letterbox, tmp_path: Path, clock: HandClock
) -> None:
    ask(desk, box, name="Wang Ltd")
    assert (box.mails[0].to, box.mails[0].subject) == ("wang@example.org", "Confirm your address")
    opened = verify_email(desk, box.token)
    assert (opened.account.name, opened.account.prepaid, opened.account.tier) == ("Wang Ltd", True, "free")
    assert (opened.member.email, opened.member.role) == ("wang@example.org", "owner")
    actor = actor_of_key(desk, opened.admin_key.text.encode(), "10.0.0.1")
    assert (actor.account, actor.member) == (opened.account.id, opened.member.id)
    assert credit_standing(actor, desk).left == 5 * USD
    assert {each.kind for each in list_keys(actor, desk, ALL).data} == {"live", "admin"}
    with desk.reading() as register:
        assert register.get(KeyRecord, digest=digest(desk.pepper, opened.key.text)) == opened.key.record
    assert len(list_accounts(LOCAL, desk, ALL).data) == 2
    assert check(tmp_path, clock.now).findings == []


def test_a_token_is_stored_as_a_digest_and_valid_once(desk: Desk, box: Letterbox, tmp_path: Path) -> None:
    ask(desk, box)
    token = box.token
    for file in tmp_path.glob("headgate.sqlite*"):
        assert token.encode() not in file.read_bytes()
    verify_email(desk, token)
    with pytest.raises(NotFound):
        verify_email(desk, token)


def test_a_token_expires_and_another_one_is_sent_on_demand(
    desk: Desk, box: Letterbox, clock: HandClock
) -> None:
    ask(desk, box)
    first = box.token
    ask(desk, box)  # at once: one mail is enough
    assert len(box.mails) == 1
    clock.now += 61_000_000
    ask(desk, box)
    assert len(box.mails) == 2
    with pytest.raises(NotFound):
        verify_email(desk, first)  # only the newest one is valid
    second = box.token
    clock.now += DAY
    with pytest.raises(NotFound):
        verify_email(desk, second)
    ask(desk, box)
    assert verify_email(desk, box.token).member.email == "wang@example.org"


def test_an_address_is_not_flooded(desk: Desk, box: Letterbox, clock: HandClock) -> None:
    for _ in range(MOST_MAILS + 5):
        ask(desk, box)
        clock.now += 3600_000_000
    assert len(box.mails) == MOST_MAILS


def test_an_address_that_has_an_account_gets_the_same_answer_and_no_second_one(
    desk: Desk, box: Letterbox, clock: HandClock
) -> None:
    fresh = sign_up(desk, box, SignUpOrder(email="wang@example.org"), LINK)
    verify_email(desk, box.token)
    clock.now += DAY
    again = sign_up(desk, box, SignUpOrder(email="WANG@example.org"), LINK)
    assert again == fresh
    assert len(box.mails) == 1
    owner = join(LOCAL, desk, "owner")
    with desk.reading() as register:
        from headgate.records import MemberRecord

        member = register.get(MemberRecord, id=owner.member)
    assert member is not None
    ask(desk, box, member.email)
    assert len(box.mails) == 1


def test_two_hundred_at_once_open_one_account(tmp_path: Path, clock: HandClock) -> None:
    with opened_desk(tmp_path, clock) as one, opened_desk(tmp_path, clock) as other:
        box = Letterbox()
        race(50, lambda n: sign_up((one, other)[n % 2], box, SignUpOrder(email="a@b.org"), LINK))
        assert len(box.mails) == 1
        results = race(200, lambda n: verify_email((one, other)[n % 2], box.token))
        assert sum(isinstance(each, NewAccount) for each in results) == 1
        assert sum(isinstance(each, NotFound) for each in results) == 199
        assert len(list_accounts(LOCAL, one, ALL).data) == 2
        assert check(tmp_path, clock.now).findings == []


def test_mail_that_cannot_be_sent_is_said_and_can_be_asked_for_again(
    desk: Desk, box: Letterbox, clock: HandClock
) -> None:
    with pytest.raises(Unavailable):
        sign_up(desk, BrokenMailer(), SignUpOrder(email="a@b.org"), LINK)
    clock.now += 61_000_000
    ask(desk, box, "a@b.org")
    assert verify_email(desk, box.token).member.email == "a@b.org"


@pytest.mark.parametrize(
    "email", ["", "a", "a@b", "a b@c.org", "a@b.org\r\nBcc: x@y.org", "a@" + "b" * 300 + ".org"]
)
def test_what_is_no_address_is_refused(desk: Desk, box: Letterbox, email: str) -> None:
    with pytest.raises(CallerError) as caught:
        sign_up(desk, box, SignUpOrder(email=email), LINK)
    assert caught.value.param == "email"
    assert box.mails == []


@pytest.mark.parametrize("token", ["x", "x" * 43, "é"])
def test_a_token_that_is_none_opens_nothing(desk: Desk, token: str) -> None:
    with pytest.raises(NotFound):
        verify_email(desk, token)


def test_an_internal_gateway_opens_no_accounts(desk: Desk, box: Letterbox, tmp_path: Path) -> None:
    ask(desk, box)
    with closing(connect(tmp_path)) as sql:
        put_terms(sql, 1, Terms(), (), 0)
    for deed in (lambda: ask(desk, box), lambda: verify_email(desk, box.token)):
        with pytest.raises(NotFound, match="opens no accounts"):
            deed()


def test_only_the_gateways_owner_sees_who_signed_up(desk: Desk, box: Letterbox) -> None:
    ask(desk, box)
    assert [each.email for each in list_signups(LOCAL, desk, ALL).data] == ["wang@example.org"]
    with pytest.raises(PermissionRefused):
        list_signups(join(LOCAL, desk, "owner"), desk, ALL)
