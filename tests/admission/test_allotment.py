"""Calls that share an allotment are let in, and paid, as calls that ask each pot for themselves."""

import pytest
from hypothesis import given, settings, strategies as st

from headgate.admission.allotment import CALLS
from headgate.admission.budget import Budgets
from headgate.admission.purse import Purse
from headgate.money.credit import Need
from headgate.money.pots import BudgetTerms, GrantTerms, Lot, Outcome
from headgate.values import Book, Principal

DAY = 86_400_000_000
NOW = 20_000 * DAY
ACCOUNT = 3


class Alone(Budgets):
    """Each call asks each pot."""

    __slots__ = ()

    def _allot(self, found, amount):
        return None


class Side:
    """A worker with everything that there is: a budget of each key, one of both, and two grants."""

    def __init__(self, kind, sizes, *, prepaid):
        self.purse = Purse("slot-0", lambda: 0)
        self.budgets = kind(self.purse)
        self.callers = [Principal(key=key, project=2, account=ACCOUNT, prepaid=prepaid) for key in (1, 2)]
        self.sizes, self.holds, self.lowered = sizes, [], 0
        places = (("key", 1), ("key", 2), ("account", ACCOUNT))
        self.rows = [
            BudgetTerms(number, scope, ref, Book.REAL, sizes[number - 1], "day")
            for number, (scope, ref) in enumerate(places, 1)
        ]
        self.grants = [
            GrantTerms(8, ACCOUNT, Book.REAL, expires_at=NOW + DAY + 9),
            GrantTerms(9, ACCOUNT, Book.REAL),
        ]
        self.reload(NOW)

    def reload(self, now):
        self.budgets.replace(self.rows, self.grants)
        self.fill(now)

    def fill(self, now):
        """Grant all that nobody has."""
        found = [self.budgets.in_force(who, now) for who in self.callers]
        for own in {own.name: own for each in found for own in (*each.slices, *each.offers)}.values():
            number, over = own.name.ref, int(own.name.ref == self.lowered)
            granted = 0 if over else self.sizes[number - 1 if number < 8 else number - 5] - own.granted
            pot = number * 10**9 + own.name.since // DAY
            self.purse._take(Lot(own.name, pot, granted, 0, 0, over, 0, 0))

    def calls(self, whose, amount, count, now):
        return [self.call(whose, amount, now) for _ in range(count)]

    def call(self, whose, amount, now):
        found = self.budgets.covering(self.callers[whose])
        hold = self.budgets.reserve(found, amount, now, Need("m", amount, 1))
        if hold is None:
            return None
        self.holds.append(hold)
        return (hold.at, hold.pots, hold.sources, [own.name for own in hold.slices])

    def end(self, which, part):
        if self.holds:
            hold = self.holds.pop(which % len(self.holds))
            self.budgets.close(hold, hold.amount * part // 100)

    def carry(self, which):
        """Let a batch begin that this was held for."""
        if self.holds:
            self.budgets.carry_away(self.holds.pop(which % len(self.holds)))

    def recall(self, which, now):
        """Let another worker lack what this one has of a pot."""
        found = [self.budgets.in_force(who, now) for who in self.callers]
        pots = sorted({own.pot for each in found for own in (*each.slices, *each.offers)})
        return self.purse.answer(Outcome(recalled={pots[which % len(pots)]: 1}))

    def lower(self, number, now):
        self.lowered = 0 if self.lowered else number
        self.fill(now)

    def tell(self, now):
        self.budgets.expire(now)
        told = self.purse.collect([], now, 0)
        self.purse.apply(told, Outcome(), 0)
        self.fill(now)
        return told.returns, self.standing(now)

    def standing(self, now):
        found = [self.budgets.in_force(who, now) for who in self.callers]
        left = [self.budgets.standing(each)[:2] for each in found]
        return left, [
            (own.free, own.drawn, own.held) for each in found for own in (*each.slices, *each.offers)
        ]


plenty = st.integers(8 * CALLS, 900)
sizes = st.tuples(*[st.one_of(plenty, plenty, plenty, st.integers(0, 300))] * 5)
events = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(0, 1), st.sampled_from((0, 1, 3, 20, 90, 200, 240))),
        st.tuples(st.just("calls"), st.integers(0, 1), st.sampled_from((1, 2, 3)), st.integers(2, 60)),
        st.tuples(st.just("end"), st.integers(0, 99), st.integers(0, 100)),
        st.tuples(st.just("end"), st.integers(0, 99), st.integers(0, 100)),
        st.tuples(st.just("carry"), st.integers(0, 99)),
        st.tuples(st.just("recall"), st.integers(0, 9)),
        st.tuples(st.just("tell")),
        st.tuples(st.just("fill")),
        st.tuples(st.just("reload")),
        st.tuples(st.just("lower"), st.sampled_from((1, 2, 3, 8, 9))),
        st.tuples(st.just("wait"), st.sampled_from((3, 9, DAY // 2, DAY))),
    ),
    min_size=5,
    max_size=60,
)


@settings(deadline=None, max_examples=300)
@given(sizes, st.booleans(), events)
def test_calls_are_let_in_and_paid_as_if_each_had_asked_each_pot(sizes, prepaid, done):
    now = NOW
    shared, alone = Side(Budgets, sizes, prepaid=prepaid), Side(Alone, sizes, prepaid=prepaid)
    for what, *given_ in done:
        if what == "wait":
            now += given_[0]
            continue
        told = [
            getattr(side, what)(*given_, *(() if what in {"end", "carry"} else (now,)))
            for side in (shared, alone)
        ]
        assert told[0] == told[1]
    assert shared.tell(now) == alone.tell(now)


def test_what_is_allotted_to_one_key_is_at_once_another_keys():
    side = Side(Budgets, (10_000, 10_000, 1_000, 0, 0), prepaid=False)
    assert side.call(0, 1, NOW) is not None
    assert side.call(0, 1, NOW) is not None
    assert len(side.purse.allotments) == 1
    assert side.call(1, 998, NOW) is not None
    assert side.call(0, 1, NOW) is None


def test_who_is_above_its_own_cap_ends_nobody_elses_allotment():
    side = Side(Budgets, (10_000, 10, 10_000, 0, 0), prepaid=False)
    side.callers.append(Principal(key=4, project=5, account=6))  # of nobody else's account
    side.rows.append(BudgetTerms(4, "key", 4, Book.REAL, 0, "day"))
    side.sizes = (*side.sizes, 10)
    side.reload(NOW)
    assert all(side.calls(0, 1, 2, NOW))
    [allotment] = side.purse.allotments
    assert side.call(1, 20, NOW) is None
    assert side.call(2, 20, NOW) is None
    assert side.budgets.standing(side.budgets.covering(side.callers[2]))[:2] == (0, 0)
    assert side.purse.allotments == {allotment}
    assert allotment.open


@pytest.mark.parametrize("lowered", [1, 3])
def test_of_a_pot_that_was_lowered_nothing_allotted_is_spent(lowered):
    side = Side(Budgets, (10_000, 10_000, 10_000, 0, 0), prepaid=False)
    assert all(side.calls(0, 1, 2, NOW))
    assert side.purse.allotments
    side.lower(lowered, NOW)
    assert side.call(0, 1, NOW) is None
    side.end(0, 0)
    assert side.call(0, 1, NOW) is None


def test_what_was_allotted_of_a_period_is_not_spent_in_the_next():
    side = Side(Budgets, (10_000, 10_000, 10_000, 0, 0), prepaid=False)
    assert all(side.calls(0, 1, 2, NOW))
    assert side.purse.allotments
    assert side.call(0, 1, NOW + DAY) is None  # nothing is granted of it yet


def test_what_is_allotted_is_given_to_others_who_lack_it():
    side = Side(Budgets, (10_000, 10_000, 10_000, 0, 0), prepaid=False)
    (_, pots, *_), _ = side.calls(0, 1, 2, NOW)
    side.purse.answer(Outcome(recalled={pots[1]: 1}))
    assert side.call(0, 1, NOW) is None
    assert side.purse.collect([], NOW, 0).returns == {pots[1]: 10_000 - 2}


def test_calls_of_a_busy_key_share_one_allotment_until_the_store_is_told():
    side = Side(Budgets, (10_000, 10_000, 10_000, 10_000, 10_000), prepaid=True)
    for _ in range(CALLS):
        side.call(0, 5, NOW)
        side.end(0, 40)
    [allotment] = side.purse.allotments
    assert allotment.drawn == 2 * (CALLS - 1)  # the first call has learnt the pots
    side.tell(NOW)
    assert not side.purse.allotments
    assert [own.drawn for own in allotment.slices] == [2 * CALLS] * 2


def test_calls_share_again_once_the_grant_before_is_spent() -> None:
    side = Side(Budgets, [10**9, 10**9, 10**9, 1_000, 10**9], prepaid=True)
    rest = side.calls(0, 300, 4, NOW)  # the last one takes a hundred, and two hundred of the next grant
    assert [[source.grant for source in sources] for _, _, sources, _ in rest] == [[8], [8], [8], [8, 9]]
    for _ in rest:
        side.end(0, 100)
    (_, _, sources, _) = side.call(0, 300, NOW)
    assert [source.grant for source in sources] == [9]
    assert side.holds[-1].allotment.open, "what is spent up is no reason to ask each pot"
    side.sizes[3] += 5_000_000  # a correction of the first grant
    side.reload(NOW)
    assert [source.grant for source in side.call(0, 300, NOW)[2]] == [8]
