"""What a server knows of keys, and that it follows each change as if it had read everything anew."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.ops.fakes import HandClock, actor, join, opened_desk

from headgate.errors import AuthenticationFailed, CallerError, Unavailable
from headgate.identity.keys import Keyring, digest
from headgate.ops.accounts import AccountChange, AccountOrder, change_account, create_account
from headgate.ops.actors import LOCAL
from headgate.ops.desk import Desk
from headgate.ops.keyrules import KeyChange, KeyOrder
from headgate.ops.keys import change_key, create_key, create_service_account, revoke_key, rotate_key
from headgate.ops.members import MemberChange, change_member, remove_member
from headgate.ops.projects import (
    ProjectOrder,
    archive_project,
    create_project,
    put_project_member,
    remove_project_member,
)
from headgate.ops.signin import actor_of_key
from headgate.process import notices
from headgate.process.notices import Notices
from headgate.stores.sql.connection import Connection
from headgate.stores.sql.database import Place, changes_since, connect, last_change
from headgate.stores.sql.directory import Directory
from headgate.values import Principal


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def desk(place: Place, clock: HandClock) -> Iterator[Desk]:
    with opened_desk(place, clock) as opened:
        yield opened


@pytest.fixture
def sql(desk: Desk, place: Place) -> Iterator[Connection]:
    with closing(connect(place)) as connection:
        yield connection


class Server:
    """What a worker does with the directory: follow the changes, then ask."""

    def __init__(self, sql: Connection, pepper: bytes, clock: HandClock) -> None:
        self._sql, self._pepper, self._clock = sql, pepper, clock
        self._seen, self.directory = last_change(sql), Directory(sql)

    def ask(self, token: str) -> Principal | str:
        """Return who a key stands for, or the code of its refusal; the same as after a new start."""
        changes = changes_since(self._sql, self._seen)
        self.directory.follow([(kind, ref) for _, kind, ref in changes])
        self._seen = changes[-1][0] if changes else self._seen
        answers = []
        for directory in (self.directory, Directory(self._sql)):
            try:
                keyring = Keyring(self._pepper, directory)
                answers.append(keyring.authenticate(token, self._clock.now))
            except CallerError as error:
                answers.append(str(error.code))
        assert answers[0] == answers[1]
        return answers[0]


@pytest.fixture
def server(sql: Connection, desk: Desk, clock: HandClock) -> Server:
    return Server(sql, desk.pepper, clock)


def principal(found: Principal | str) -> Principal:
    assert isinstance(found, Principal), found
    return found


def test_a_key_is_known_with_all_that_it_may_and_after_each_change(server: Server, desk: Desk) -> None:
    order = KeyOrder(
        name="a", models=("m*",), endpoints=("chat",), networks=("10.0.0.0/8",), rpm=1, tpm=2, rpd=3, tpd=4,
        concurrency=5, queue_ms=6, priority="batch",
    )  # fmt: skip
    made = create_key(LOCAL, desk, order)
    found = principal(server.ask(made.text))
    assert (found.models, found.endpoints, found.networks) == (("m*",), ("chat",), ("10.0.0.0/8",))
    assert (found.rpm, found.tpm, found.rpd, found.tpd, found.concurrency) == (1, 2, 3, 4, 5)
    assert (found.queue_ms, found.priority) == (6, "batch")
    change_key(LOCAL, desk, made.record.id, KeyChange(models=(), rpm=9))
    assert principal(server.ask(made.text)).rpm == 9
    plain = create_key(LOCAL, desk, KeyOrder(name="päron \x7e"))
    assert principal(server.ask(plain.text)).name == "päron \x7e"
    revoke_key(LOCAL, desk, made.record.id)
    assert server.ask(made.text) == "invalid_api_key"
    assert principal(server.ask(plain.text)).rpm == 0


def test_a_rotated_key_has_two_secrets_for_its_grace_and_then_one(
    server: Server, desk: Desk, clock: HandClock
) -> None:
    first = create_key(LOCAL, desk, KeyOrder(name="a"))
    second = rotate_key(LOCAL, desk, first.record.id, grace_s=60)
    old, new = principal(server.ask(first.text)), principal(server.ask(second.text))
    assert (old.key, old.expires_at, new.expires_at) == (new.key, clock.now + 60_000_000, 0)
    clock.now += 59_999_999
    principal(server.ask(first.text))
    clock.now += 1
    assert server.ask(first.text) == "invalid_api_key"
    third = rotate_key(LOCAL, desk, first.record.id)
    for token in (first.text, second.text):
        assert server.ask(token) == "invalid_api_key"
    assert principal(server.ask(third.text)).key == new.key
    fourth = rotate_key(LOCAL, desk, first.record.id, grace_s=5)
    fifth = rotate_key(LOCAL, desk, first.record.id, grace_s=5)
    assert server.ask(third.text) == "invalid_api_key"  # only the last one before has a grace
    assert principal(server.ask(fourth.text)).key == principal(server.ask(fifth.text)).key


def test_a_key_follows_its_account_project_and_member(server: Server, desk: Desk) -> None:
    account = create_account(LOCAL, desk, AccountOrder(name="acme")).id
    owner = join(LOCAL, desk, "owner", account)
    dev = join(owner, desk, "developer", account)
    project = create_project(owner, desk, ProjectOrder(name="p")).id
    put_project_member(owner, desk, project, dev.id, "member")
    token = create_key(actor(desk, dev.id), desk, KeyOrder(name="a")).text
    robot = create_service_account(owner, desk, project, KeyOrder(name="robot"))
    assert principal(server.ask(token)).account_id == account
    principal(server.ask(robot.key.text))
    change_account(LOCAL, desk, account, AccountChange(status="suspended"))
    assert server.ask(token) == server.ask(robot.key.text) == "account_deactivated"
    change_account(LOCAL, desk, account, AccountChange(status="active", multiplier_ppm=5))
    assert principal(server.ask(token)).multiplier_ppm == 5
    remove_project_member(owner, desk, project, dev.id)
    assert server.ask(token) == "invalid_api_key"
    put_project_member(owner, desk, project, dev.id, "owner")
    principal(server.ask(token))
    remove_member(owner, desk, dev.id)
    assert server.ask(token) == "invalid_api_key"
    principal(server.ask(robot.key.text))
    remove_member(owner, desk, robot.member.id)
    assert server.ask(robot.key.text) == "invalid_api_key"
    mine = create_key(owner, desk, KeyOrder(name="b", project=project)).text
    principal(server.ask(mine))
    archive_project(owner, desk, project)
    assert server.ask(mine) == "not_authorized_invalid_project"


def test_a_members_key_ends_when_its_role_makes_no_calls(server: Server, desk: Desk) -> None:
    owner = join(LOCAL, desk, "owner")
    boss = join(owner, desk, "admin")
    token = create_key(boss, desk, KeyOrder(name="a")).text
    principal(server.ask(token))
    change_member(owner, desk, boss.id, MemberChange(role="auditor"))
    assert server.ask(token) == "invalid_api_key"


def test_a_key_shrinks_with_the_keys_that_made_it(server: Server, desk: Desk, clock: HandClock) -> None:
    first = create_key(LOCAL, desk, KeyOrder(name="one", kind="admin"))
    second = create_key(
        actor_of_key(desk, first.text.encode(), ""), desk, KeyOrder(name="two", kind="admin", rpm=100)
    )
    third = create_key(actor_of_key(desk, second.text.encode(), ""), desk, KeyOrder(name="three"))
    assert principal(server.ask(third.text)).rpm == 100
    change_key(LOCAL, desk, first.record.id, KeyChange(models=("gpt-*",), rpm=7, expires_at=clock.now + 5))
    found = principal(server.ask(third.text))
    assert (found.models, found.rpm, found.expires_at) == (("gpt-*",), 7, clock.now + 5)
    change_key(LOCAL, desk, second.record.id, KeyChange(rpm=3, models=("gpt-4o",)))
    assert principal(server.ask(third.text)).rpm == 3
    assert server.ask(first.text) == "admin_key_refused"


def test_any_order_of_changes_ends_as_a_new_start_would(server: Server, desk: Desk, clock: HandClock) -> None:
    draw = random.Random(3)
    tokens: dict[str, list[str]] = {}
    for _ in range(60):
        what = draw.randrange(4) if tokens else 0
        ref = draw.choice(list(tokens)) if tokens else ""
        try:
            if what == 0:
                made = create_key(LOCAL, desk, KeyOrder(name="a", rpm=draw.randrange(3)))
                tokens[made.record.id] = [made.text]
            elif what == 1:
                tokens[ref].append(rotate_key(LOCAL, desk, ref, grace_s=draw.choice([0, 30])).text)
            elif what == 2:
                change_key(LOCAL, desk, ref, KeyChange(rpm=draw.randrange(9)))
            elif draw.random() < 0.3:
                revoke_key(LOCAL, desk, ref)
        except CallerError:
            continue  # it is revoked already
        clock.now += draw.randrange(20_000_000)
        for token in (token for texts in tokens.values() for token in texts):
            server.ask(token)
    valid = [ref for ref, texts in tokens.items() if isinstance(server.ask(texts[-1]), Principal)]
    assert valid


def test_a_junk_secret_is_not_there(server: Server, desk: Desk) -> None:
    assert server.directory.get(digest(desk.pepper, "sk-hg-live-none")) is None
    assert server.directory.now(999) is None
    assert len(server.directory) == 0


def test_a_key_that_was_made_elsewhere_is_not_called_wrong_for_want_of_news(
    desk: Desk, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = 10**15
    monkeypatch.setattr(notices, "since_boot_ns", lambda: now_ns)
    news = Notices(place)
    keyring = news.ring(desk.pepper, playing=False)
    token = create_key(LOCAL, desk, KeyOrder(name="a")).text
    with pytest.raises(AuthenticationFailed):  # everywhere within a second
        keyring.authenticate(token, 1)
    now_ns += 1_000_000_001
    with pytest.raises(Unavailable, match="its database does not answer"):
        keyring.authenticate(token, 1)

    async def hear() -> None:
        assert await news.behind()
        news.take(await news.ask(news.read))
        await news.close()

    asyncio.run(hear())
    assert keyring.authenticate(token, 1).name == "a"
