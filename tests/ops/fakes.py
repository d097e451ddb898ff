"""A clock moved by hand, and a desk on a new data folder."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from headgate.ops.actors import Actor
from headgate.ops.desk import Desk
from headgate.ops.members import MemberOrder, add_member
from headgate.ops.signin import actor_of_member
from headgate.records import MemberRecord
from headgate.stores.sql.admin import SqlAdminStore
from headgate.stores.sql.bootstrap import prepare

START = 1_790_000_000_000_000


class HandClock:
    def __init__(self, wall: int = START) -> None:
        self.now = wall

    def wall(self) -> int:
        return self.now

    def monotonic(self) -> int:
        return self.now * 1000


@contextmanager
def opened_desk(folder: Path, clock: HandClock) -> Iterator[Desk]:
    pepper = prepare(folder, clock.now, None).pepper
    with closing(SqlAdminStore(folder)) as store:
        yield Desk(store, clock, pepper)


def join(boss: Actor, desk: Desk, role: str, account: str = "") -> Actor:
    """Take a new member into an account; return it as an actor."""
    with desk.reading() as register:
        count = len(register.all(MemberRecord))
    made = add_member(boss, desk, MemberOrder(email=f"m{count}@example.org", role=role, account=account))
    return actor(desk, made.id)


def actor(desk: Desk, member: str) -> Actor:
    with desk.reading() as register:
        found = actor_of_member(register, member)
    assert found is not None
    return found
