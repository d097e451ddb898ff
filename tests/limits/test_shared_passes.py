"""Passes on what is in hand: they let in, and tell the store, what calls do that look at their meters each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from headgate.admission.gates import Gate
from headgate.admission.limits import LimitRow, LimitTable
from headgate.admission.meters import MINUTE_NS, SECOND_NS
from headgate.admission.passes import LASTS_NS
from headgate.admission.rate import Rates
from headgate.admission.sharing import Shares
from headgate.errors import Unavailable
from headgate.money.shares import Ask
from headgate.ports import Forgotten
from headgate.stores.live import MemoryMeters
from headgate.values import Limits, Principal

pytestmark = pytest.mark.anyio
WORKERS = 2


class Moved:
    """A clock that a test moves."""

    now = 0

    def monotonic(self) -> int:
        return self.now

    def wall(self) -> int:
        return self.now // 1000


class Store(MemoryMeters):
    """Keeps what it is told, lets things happen before it answers, and fails when it is told so."""

    def __init__(self, workers: int = WORKERS) -> None:
        super().__init__(workers)
        self.heard: list[Ask] = []
        self.fails: type[Exception] | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    async def exchange(self, slot, asks, now):
        self.heard += sorted(ask for ask in asks if ask.spent or ask.keep or ask.want)
        if self.fails is not None:
            self.meanwhile()
            raise self.fails("gone")
        answers = await super().exchange(slot, asks, now)
        self.meanwhile()
        return answers

    def spent(self, name: str) -> int:
        """Return all that was told of a meter."""
        return sum(ask.spent for ask in self.heard if ask.name == name)


class Team:
    """Two workers on one store, and two keys of one account, whose calls pass in one of two ways."""

    def __init__(self, *, passes: bool = True, workers: int = WORKERS, **limits: int) -> None:
        self.clock, self.store = Moved(), Store(workers)
        self.shares = [Shares(slot, self.store, self.clock) for slot in range(workers)]
        if not passes:
            for each in self.shares:
                each.turnstiles = None
        table = LimitTable([LimitRow("account", 1, "", Limits(**limits))])
        self.rates = [Rates(table, shares=each) for each in self.shares]
        half = {kind: max(1, limit // 2) for kind, limit in limits.items()}
        self.who = [Principal(key=1, project=1, account=1), Principal(key=2, project=1, account=1, **half)]
        self.tickets: list[list] = [[] for _ in range(workers)]

    def gate(self, slot: int = 0, key: int = 0) -> Gate:
        return self.rates[slot].gate(self.who[key], "m", self.clock.now)

    def admit(self, slot: int = 0, key: int = 0, tokens: int = 0):
        ticket = self.gate(slot, key).admit(tokens, self.clock.now)
        if ticket is not None:
            self.tickets[slot].append(ticket)
        return ticket

    def settle(self, slot: int, number: int, used: int) -> None:
        tickets = self.tickets[slot]
        if tickets:
            self.rates[slot].settle(tickets.pop(number % len(tickets)), used, self.clock.now)

    async def fetch(self, slot: int = 0, key: int = 0, tokens: int = 0) -> None:
        self.shares[slot].wish(self.gate(slot, key), tokens, self.clock.now)
        await self.shares[slot].tell()

    def hands(self) -> list[tuple[str, int, int, int, int]]:
        """Return what each worker has in hand, when all passes are closed."""
        found = []
        for slot in range(len(self.shares)):
            for key in range(len(self.who)):
                gate = self.gate(slot, key)
                gate.close()
                hands = [meter.hand for meter in gate.meters()]  # type: ignore[union-attr]
                found += sorted((each.name, each.held, each.spent, each.spare, each.taken) for each in hands)
        return found

    def left(self) -> list[list[bytes]]:
        """Return what the headers say is left."""
        lines = [
            self.gate(slot, key).lines(self.clock.now) for slot in range(len(self.shares)) for key in (0, 1)
        ]
        return [[row for row in each.split(b"\r\n") if b"remaining" in row] for each in lines]


limits = st.tuples(st.integers(1, 40), st.integers(1, 400), st.integers(1, 8))
steps = st.tuples(
    st.sampled_from((0, 0, 0, LASTS_NS, 3 * LASTS_NS, SECOND_NS // 10, MINUTE_NS // 40)),
    st.sampled_from(
        ("call", "call", "call", "end", "end", "fetch", "tell", "fail", "forget", "look", "leave")
    ),
    st.integers(0, WORKERS - 1),
    st.integers(0, 1),  # the key
    st.integers(0, 15),  # half of its tokens
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 1), st.integers(0, 15)), max_size=3
    ),  # as the store works
)


@settings(max_examples=60, deadline=None)
@given(limits, st.lists(steps, min_size=20, max_size=60))
def test_what_is_let_in_and_told_is_what_calls_do_that_look_each_time(sizes, events) -> None:
    asyncio.run(_compare(dict(zip(("rpm", "tpm", "concurrency"), sizes, strict=True)), events))


async def _compare(sizes: dict[str, int], events) -> None:
    teams = [Team(passes=passes, **sizes) for passes in (True, False)]
    for event in events:
        came = [await _step(team, *event) for team in teams]
        assert came[0] == came[1]
        if event[1] == "look":
            assert teams[0].hands() == teams[1].hands()
            assert teams[0].left() == teams[1].left()
        assert teams[0].store.heard == teams[1].store.heard
    assert teams[0].hands() == teams[1].hands()


async def _step(team: Team, gap: int, what: str, slot: int, key: int, tokens: int, meanwhile) -> list[bool]:
    """Do one thing; say whether the calls came in."""
    team.clock.now += gap
    let_in = []

    def go_on() -> None:
        for comes, whose, amount in meanwhile:
            if comes:
                let_in.append(team.admit(slot, whose, 2 * amount) is not None)
            else:
                team.settle(slot, amount, 2 * amount + 1)

    team.store.meanwhile = go_on
    team.store.fails = {"fail": Unavailable, "forget": Forgotten}.get(what)
    if what == "call":
        let_in.append(team.admit(slot, key, 2 * tokens) is not None)
    elif what == "end":  # never with just what was reserved: one way asks the store about that, one does not
        team.settle(slot, key + tokens, 2 * tokens + 1)
    elif what == "fetch":
        await team.fetch(slot, key, 2 * tokens)
    elif what != "look":
        await team.shares[slot].tell(leaving=what == "leave")
    return let_in


async def test_a_pass_lets_in_what_is_in_hand_and_no_more() -> None:
    team = Team(workers=1, rpm=60, tpm=6000)
    await team.fetch(tokens=1000)
    (calls,), (tokens,) = team.gate().requests, team.gate().tokens
    calls.hand.held = calls.hand.spare = 3
    tokens.hand.held = tokens.hand.spare = 100
    assert team.admit(tokens=50)
    assert not team.admit(tokens=51)
    assert team.admit(tokens=50)
    assert not team.admit(tokens=1)
    assert team.admit()
    assert not team.admit()
    assert (calls.hand.spare, tokens.hand.spare) == (0, 0)


async def test_a_call_that_ends_leaves_to_the_next_what_it_did_not_use() -> None:
    team = Team(workers=1, tpm=6000)
    await team.fetch(tokens=100)
    (tokens,) = team.gate().tokens
    tokens.hand.held = tokens.hand.spare = 100
    assert team.admit(tokens=90)
    assert not team.admit(tokens=30)
    assert team.admit(tokens=10)
    team.settle(0, 0, 60)
    assert team.admit(tokens=30)
    assert not team.admit(tokens=1)


async def test_a_round_tells_what_a_pass_took_and_keeps_as_much_in_hand() -> None:
    team = Team(workers=1, rpm=6000, tpm=600_000)
    await team.fetch(tokens=300)
    for _ in range(5):
        assert team.admit(tokens=300) or await team.fetch(tokens=300) or team.admit(tokens=300)
        team.settle(0, 0, 20)
    team.clock.now += SECOND_NS // 10
    await team.shares[0].tell()
    assert team.store.spent("account:1::rpm") == 5
    assert team.store.spent("account:1::tpm") == 100
    assert team.gate().tokens[0].hand.spare >= 300  # type: ignore[attr-defined]


@pytest.mark.parametrize("fails", [None, Unavailable, Forgotten])
async def test_what_calls_take_while_the_store_answers_is_told_once_and_not_let_in_twice(fails) -> None:
    team = Team(workers=1, rpm=6000)
    await team.fetch()
    hand = team.gate().requests[0].hand  # type: ignore[attr-defined]
    hand.held = hand.spare = 4
    assert team.admit()
    team.store.meanwhile = lambda: [team.admit() for _ in range(2)]
    team.store.fails = fails
    await team.shares[0].tell()
    team.store.meanwhile, team.store.fails = (lambda: None), None
    assert hand.spare == {None: 1, Unavailable: 0, Forgotten: 0}[fails]
    assert bool(team.admit()) == (fails is None)
    before = team.store.spent("account:1::rpm") if fails is None else 0
    team.store.heard.clear()
    await team.shares[0].tell(leaving=True)
    assert before + team.store.spent("account:1::rpm") == (4 if fails is None else 3)


async def test_what_a_call_lacks_is_asked_for_by_what_a_pass_has_left() -> None:
    team = Team(workers=1, rpm=6000)
    await team.fetch()
    hand = team.gate().requests[0].hand  # type: ignore[attr-defined]
    hand.held = hand.spare = 1
    assert team.admit()
    assert team.shares[0].wish(team.gate(), 0, team.clock.now)
    assert hand.want == 1
