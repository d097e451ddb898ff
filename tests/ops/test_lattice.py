"""S-02: whatever is granted, and whatever becomes of a grant or of who gave it, no key has a right that
its maker lacks.

A gang of members and admin keys makes, changes, rotates and revokes keys at random, and loses rights
itself. What each key may do is then asked of the two gates there are (`actor_of_key` and the ring of a
server) and compared with what its maker may do, by probes and not by the code that compares ceilings.
"""

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.ops.fakes import HandClock, actor, join

from headgate.errors import GatewayError
from headgate.identity.keys import Keyring
from headgate.identity.networks import inside
from headgate.identity.rights import exceeding, narrow
from headgate.identity.roles import ACCOUNT_PERMISSIONS
from headgate.identity.standing import may_use
from headgate.ops.accounts import AccountOrder, create_account
from headgate.ops.actors import LOCAL, Actor, Place
from headgate.ops.desk import Desk
from headgate.ops.keyrules import Cap, KeyChange, KeyOrder
from headgate.ops.keys import CreatedKey, change_key, create_key, rotate_key
from headgate.ops.members import MemberChange, change_member, remove_member
from headgate.ops.projects import ProjectOrder, create_project, put_project_member, remove_project_member
from headgate.ops.signin import actor_of_key, actor_of_member
from headgate.records import BudgetRecord, KeyRecord
from headgate.stores.sql.database import connect
from headgate.stores.sql.directory import Directory
from headgate.values import Ceiling, Principal

GRANTS = int(os.environ.get("HEADGATE_GRANTS", "600"))  # 10,000 for the whole proof
MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "o3", "o3-mini", "claude-x", "m")
PATTERNS = ("*", "gpt-*", "gpt-4o*", "gpt-4o", "*-mini", "o3*", "o*3", "c*x", "m", "gpt-4o-*")
ENDPOINTS = ("chat", "completions", "embeddings")
NETWORKS = ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "::/0", "2001:db8::/32", "192.0.2.0/24")
ADDRESSES = ("10.1.2.3", "10.1.9.9", "10.9.9.9", "192.0.2.7", "8.8.8.8", "2001:db8::1", "2606::1")
LIMITS = ("rpm", "tpm", "rpd", "tpd", "concurrency")
RIGHTS = sorted(ACCOUNT_PERMISSIONS)


def ceiling_fields(draw: random.Random, now: int) -> dict[str, object]:
    """Draw some of the members that bound a key."""
    fields: dict[str, object] = {}
    for name, options in (("models", PATTERNS), ("endpoints", ENDPOINTS), ("networks", NETWORKS)):
        if draw.random() < 0.4:
            fields[name] = tuple(draw.sample(options, draw.randrange(4) % (len(options) + 1)))
    for name in LIMITS:
        if draw.random() < 0.25:
            fields[name] = draw.choice([0, 1, 5, 10, 100])
    if draw.random() < 0.25:
        fields["expires_at"] = draw.choice([0, now + 10**9, now + 10**12])
    return fields


class World:
    """One account, its people, their keys, and who made which."""

    def __init__(self, desk: Desk, sql: sqlite3.Connection, clock: HandClock, seed: int) -> None:
        self.desk, self.sql, self.clock = desk, sql, clock
        self.draw = random.Random(seed)
        self.account = create_account(LOCAL, desk, AccountOrder(name=f"a{seed}")).id
        self.owner = join(LOCAL, desk, "owner", self.account)
        self.projects = [create_project(self.owner, desk, ProjectOrder(name=name)).id for name in ("p", "q")]
        roles = ("owner", "admin", "admin", "developer")
        self.people = [join(self.owner, desk, role, self.account).id for role in roles]
        for member in self.people:
            put_project_member(
                self.owner,
                desk,
                self.draw.choice(self.projects),
                member,
                self.draw.choice(["owner", "member"]),
            )
        self.keys: dict[str, CreatedKey] = {}
        self.made_by: dict[str, str] = {}
        self.done = self.refused = 0

    def who(self) -> Actor | None:
        """Draw somebody who acts: a member, or an admin key of one."""
        admins = [made for made in self.keys.values() if made.record.kind == "admin"]
        if admins and self.draw.random() < 0.6:
            return self.signed_in(self.draw.choice(admins))
        with self.desk.reading() as register:
            return actor_of_member(register, self.draw.choice(self.people))

    def signed_in(self, made: CreatedKey) -> Actor | None:
        for address in ADDRESSES:
            try:
                return actor_of_key(self.desk, made.text.encode(), address)
            except GatewayError:
                continue
        return None

    def step(self) -> None:
        """Do one thing at random; it may be refused."""
        who = self.who()
        if who is None:
            return
        before = self.keys.copy()
        try:
            deeds = (self.make, self.make, self.make, self.change, self.rotate, self.shrink, self.tighten)
            self.draw.choice(deeds)(who)
            self.done += 1
        except GatewayError:
            self.refused += 1
            assert self.keys == before

    def make(self, who: Actor) -> None:
        draw = self.draw
        kind = draw.choice(["live", "admin"])
        fields = ceiling_fields(draw, self.clock.now)
        if kind == "admin" and draw.random() < 0.7:
            fields["rights"] = tuple(draw.sample(RIGHTS, draw.randrange(1, 7)))
        if draw.random() < 0.5:
            fields["budget"] = Cap(amount=draw.choice([5, 50, 500]))
        if draw.random() < 0.5:
            fields["member"] = draw.choice(self.people)
        order = KeyOrder(name="k", kind=kind, project=draw.choice([*self.projects, ""]), **fields)  # type: ignore[arg-type]
        made = create_key(who, self.desk, order)
        self.keys[made.record.id] = made
        self.made_by[made.record.id] = who.id
        self.never_more(made, who)

    def change(self, who: Actor) -> None:
        fields = ceiling_fields(self.draw, self.clock.now)
        if self.draw.random() < 0.3:
            fields["rights"] = tuple(self.draw.sample(RIGHTS, self.draw.randrange(4)))
        ref = self.draw.choice(list(self.keys)) if self.keys else "key_none"
        record = change_key(who, self.desk, ref, KeyChange(**fields))  # type: ignore[arg-type]
        self.keys[ref] = CreatedKey(self.keys[ref].text, record)

    def tighten(self, _: Actor) -> None:
        """Take rights from a key that has made others, as the owner."""
        parents = sorted({maker for maker in self.made_by.values() if maker in self.keys})
        if parents:
            ref = self.draw.choice(parents)
            fields = ceiling_fields(self.draw, self.clock.now)
            fields["rights"] = tuple(self.draw.sample(RIGHTS, 8))
            record = change_key(self.owner, self.desk, ref, KeyChange(**fields))  # type: ignore[arg-type]
            self.keys[ref] = CreatedKey(self.keys[ref].text, record)

    def rotate(self, who: Actor) -> None:
        """Get a key's secret: what it can do is then the actor's."""
        ref = self.draw.choice(list(self.keys)) if self.keys else "key_none"
        made = rotate_key(who, self.desk, ref, self.draw.choice([0, 60]))
        self.keys[ref] = made
        self.never_more(made, who)

    def shrink(self, who: Actor) -> None:
        """Take rights from somebody, as the owner."""
        member, what = self.draw.choice(self.people), self.draw.random()
        if what < 0.1:
            remove_member(self.owner, self.desk, member)
        elif what < 0.6:
            role = self.draw.choice(["admin", "developer", "viewer", "billing", "auditor", "owner"])
            change_member(self.owner, self.desk, member, MemberChange(role=role))
        elif what < 0.8:
            remove_project_member(self.owner, self.desk, self.draw.choice(self.projects), member)
        else:
            put_project_member(self.owner, self.desk, self.draw.choice(self.projects), member, "member")

    # ── what must be true ────────────────────────────────────────────────────────────────────────

    def never_more(self, made: CreatedKey, who: Actor) -> None:
        """See that a key just got can do nothing that its actor could not have a key do."""
        record = made.record
        assert probes(record, self.clock.now) <= probes(who.ceiling, self.clock.now)
        for name in LIMITS:
            assert limited(getattr(record, name), getattr(who.ceiling, name)), name
        if record.kind == "admin":
            key = self.signed_in(made)
            for project in ("", *self.projects):
                place = Place(self.account, project)
                has = key.everything(place) if key is not None else frozenset()
                assert has <= who.everything(place)
        elif record.member == who.member:
            assert who.may("keys.write", Place(self.account, record.project, record.member))

    def check(self) -> None:
        """Compare every key that works with what it comes from, as that is now."""
        keyring = Keyring(self.desk.pepper, Directory(self.sql))
        for ref, made in self.keys.items():
            maker = self.keys.get(self.made_by[ref])
            if made.record.kind == "admin":
                self.check_admin(made, maker)
                continue
            try:
                found = keyring.authenticate(made.text, self.clock.now)
            except GatewayError:
                continue
            self.check_caller(found, made.record)
            if maker is not None:
                bound = self.record(maker)
                assert probes(found, self.clock.now) <= probes(bound, self.clock.now)
                for name in LIMITS:
                    assert limited(getattr(found, name), getattr(bound, name)), name
                self.check_budgets(ref, maker.record.id)

    def check_admin(self, made: CreatedKey, maker: CreatedKey | None) -> None:
        key = self.signed_in(made)
        if key is None:
            return
        holder = actor(self.desk, made.record.member)
        bound = self.record(maker) if maker is not None else None
        for project in ("", *self.projects):
            place = Place(self.account, project)
            assert key.everything(place) <= holder.everything(place)
            if bound is not None and bound.rights:
                assert key.everything(place) <= set(bound.rights)
        if bound is not None:
            assert probes(key.ceiling, self.clock.now) <= probes(bound, self.clock.now)

    def check_caller(self, found: Principal, record: KeyRecord) -> None:
        holder = actor(self.desk, record.member)
        assert holder.may("calls.make", Place(self.account, record.project))

    def check_budgets(self, ref: str, maker: str) -> None:
        with self.desk.reading() as register:
            caps = {cap.unit: cap.amount for cap in register.all(BudgetRecord, scope="key", ref=ref)}
            bounds = register.all(BudgetRecord, scope="key", ref=maker)
        assert all(caps.get(bound.unit, bound.amount + 1) <= bound.amount for bound in bounds)

    def record(self, made: CreatedKey) -> KeyRecord:
        with self.desk.reading() as register:
            found = register.get(KeyRecord, id=made.record.id)
        assert found is not None
        return found


def probes(of: Ceiling | KeyRecord | Principal, now: int) -> set[tuple[str, str]]:
    """Return what a ceiling lets through, by trying."""
    caller = Principal(1, 1, 1, models=of.models)
    through = {("model", model) for model in MODELS if may_use(caller, model)}
    through |= {("endpoint", name) for name in ENDPOINTS if not of.endpoints or name in of.endpoints}
    through |= {("from", where) for where in ADDRESSES if not of.networks or inside(where, of.networks)}
    instants = (now, now + 10**10, now + 10**14)
    return through | {("at", str(at)) for at in instants if not of.expires_at or at < of.expires_at}


def limited(value: int, bound: int) -> bool:
    return not bound or 0 < value <= bound


@pytest.fixture
def sql(desk: Desk, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(tmp_path)) as connection:
        yield connection


def test_no_key_ever_has_a_right_that_its_maker_lacks(
    desk: Desk, sql: sqlite3.Connection, clock: HandClock
) -> None:
    tried = done = seed = 0
    while tried < GRANTS:
        seed += 1
        world = World(desk, sql, clock, seed)
        for number in range(100):
            world.step()
            if number % 20 == 19:
                world.check()
        tried += world.done + world.refused
        done += world.done
    assert done > GRANTS // 10  # enough was granted for this to mean something


def ceiling(draw: random.Random) -> Ceiling:
    fields = ceiling_fields(draw, 0)
    fields.setdefault("expires_at", 0)
    return Ceiling(**fields)  # type: ignore[arg-type]


def test_ceilings_are_compared_and_narrowed_as_trying_shows() -> None:
    draw = random.Random(5)
    empty = 0
    for _ in range(20_000):
        one, two = ceiling(draw), ceiling(draw)
        if not exceeding(one, two):
            assert probes(one, 1) <= probes(two, 1)
        both = narrow(one, two)
        if both is None:
            empty += 1
            continue
        assert probes(both, 1) <= probes(one, 1) & probes(two, 1)
        assert exceeding(both, one) == exceeding(both, two) == ""
        assert narrow(one, one) is not None
    assert 0 < empty < 10_000
