"""Groups of shared meters do in loops what their buckets do one by one."""

from mmap import mmap

import pytest
from hypothesis import given, strategies as st

from headgate.admission.leased import LeasedBucket, LeasedGroup, LeasedTokenGroup, group, token_group
from headgate.admission.meters import MINUTE_NS, Group, Place, TokenBucket, TokenGroup
from headgate.money.shares import CELLS, Answer, Sight

PLACE = Place("key", 1)
Steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "reserve", "settle", "grant", "round"]),
        st.integers(0, 2 * MINUTE_NS),
        st.integers(0, 60),
        st.integers(0, 80),
    ),
    max_size=40,
)


def made(kind, limits, sight):
    touched: list[LeasedBucket] = []

    def touch(bucket: LeasedBucket) -> None:
        bucket.hand.idle = False
        touched.append(bucket)

    return tuple(LeasedBucket(PLACE, kind, limit, touch, sight) for limit in limits), touched


def state(bucket: LeasedBucket):
    hand = bucket.hand
    return hand.held, hand.spent, hand.spare, hand.taken, hand.moved_ns, hand.idle


def hear(buckets, what, answer, now):
    for number, bucket in enumerate(buckets):
        if what == "round":
            bucket.hand.let_go(all_of_it=False)
        row = number % (len(buckets) // 2) + 1
        bucket.hand.told(
            bucket.report(now), answer._replace(left=min(answer.left, bucket.limit), row=row), now
        )


@pytest.mark.parametrize("seen", [False, True])
@given(st.lists(st.integers(1, 100), min_size=1, max_size=3), Steps)
def test_a_group_in_loops_does_what_its_buckets_do(seen, limits, steps):
    sights = [Sight(memoryview(mmap(-1, CELLS * 8)).cast("q"), 0, 1) if seen else None for _ in range(2)]
    (plain, told), (looped, told_looped) = (made("tpm", limits, sight) for sight in sights)
    slow, fast = TokenGroup(plain), token_group(looped)
    now, calls = 0, []
    for what, gap, amount, used in steps:
        now += gap
        assert fast.passes(amount, now) == slow.passes(amount, now)
        if what == "take":
            slow.take(amount, now)
            fast.take(amount, now)
        elif what == "reserve":
            slow.reserve(amount, now)
            fast.reserve(amount, now)
            calls.append((amount, now))
        elif what == "settle" and calls:
            reserved, since = calls.pop(used % len(calls))
            slow.settle(reserved, used, since, now)
            fast.settle(reserved, used, since, now)
        elif what != "settle":
            hear((*plain, *looped), what, Answer(amount, used, used // 2, left=used), now)
        assert list(map(state, plain)) == list(map(state, looped))
        assert fast.least(now) == slow.least(now)
    assert len(told) == len(told_looped)
    if sights[0] is not None and sights[1] is not None:
        assert [sights[0].spent(row) for row in range(9)] == [sights[1].spent(row) for row in range(9)]


def test_only_shared_buckets_alone_are_gone_over_in_loops():
    (shared,), _ = made("tpm", [5], None)
    own = TokenBucket(PLACE, "tpm", 5, 0)
    assert type(group((shared,))) is LeasedGroup
    assert type(token_group((shared,))) is LeasedTokenGroup
    assert type(group((own, shared))) is Group
    assert type(token_group((own, shared))) is TokenGroup
    assert type(group(())) is Group
