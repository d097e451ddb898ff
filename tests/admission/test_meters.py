"""Buckets against a model of them that keeps every take and computes anew."""

from fractions import Fraction

from hypothesis import given, settings, strategies as st

from headgate.admission.meters import (
    _MOST_LOWS,
    MINUTE_NS,
    WINDOWS,
    Bucket,
    Place,
    TokenBucket,
)

PLACE = Place("key", 1)
SECOND = 1_000_000_000
steps = st.integers(min_value=0, max_value=40 * SECOND)


def lack(takes, limit, now, kind="tpm"):
    """What a bucket lacks after takes of (time, amount), in units, exactly."""
    short, last = Fraction(0), 0
    for at, amount in [*takes, (now, 0)]:
        short = max(Fraction(0), short - Fraction((at - last) * limit, WINDOWS[kind])) + amount
        last = at
    return short


@given(
    st.sampled_from(["rpm", "rpd"]),
    st.integers(min_value=1, max_value=20),
    st.lists(steps, min_size=12, max_size=60),
)
def test_no_interval_lets_through_more_than_its_limit_and_what_was_refilled(kind, limit, gaps):
    bucket, now, passed = Bucket(PLACE, kind, limit, 0), 0, []
    for gap in gaps:
        now += gap
        while not bucket.wait_ns(1, now):
            bucket.take(1, now)
            passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            through, took = last - first + 1, passed[last] - passed[first]
            assert through * WINDOWS[kind] <= limit * WINDOWS[kind] + limit * took


@given(
    st.integers(min_value=1, max_value=5000),
    st.lists(st.tuples(steps, st.integers(0, 3000)), min_size=8, max_size=40),
)
def test_the_wait_is_exact(limit, asked):
    bucket, now, takes = TokenBucket(PLACE, "tpm", limit, 0), 0, []
    for gap, amount in asked:
        now += gap
        wait = bucket.wait_ns(amount, now)
        room = limit - lack(takes, limit, now)
        assert (wait == 0) == (amount <= room)
        if amount > limit:
            continue
        assert bucket.wait_ns(amount, now + wait) == 0
        assert not wait or bucket.wait_ns(amount, now + wait - 1) > 0
        now += wait
        bucket.reserve(amount, now)
        takes.append((now, amount))
        assert bucket.remaining(now) == limit - -(-lack(takes, limit, now) // 1)


Event = st.one_of(
    st.tuples(st.just("take"), steps, st.integers(min_value=0, max_value=60)),
    st.tuples(st.just("end"), steps, st.integers(min_value=0, max_value=80)),
)


def play(events, limit, most=1000):
    """Run calls that take, and end with what they used; return the bucket and what was really used."""
    bucket, now, takes, calls = TokenBucket(PLACE, "tpm", limit, 0), 0, [], []
    for what, gap, number in events:
        now += gap
        if what == "take" and not bucket.wait_ns(number, now):
            bucket.reserve(number, now)
            calls.append((len(takes), now, number))
            takes.append((now, number))
        elif what == "end" and calls:
            index, since, admitted = calls.pop(number % len(calls))
            used = number * admitted // 80
            bucket.settle(admitted, used, since, now)
            takes[index] = (takes[index][0], used)
    return bucket, now, takes


@settings(max_examples=400)
@given(st.lists(Event, min_size=25, max_size=60), st.integers(min_value=1, max_value=120))
def test_what_is_given_back_was_never_taken(events, limit):
    bucket, now, takes = play(events, limit)
    assert bucket._lack(now) == lack(takes, limit, now) * MINUTE_NS


@settings(max_examples=100)
@given(st.lists(Event, min_size=25, max_size=60), st.integers(min_value=1, max_value=120))
def test_usage_keeps_the_limit_in_every_interval_whatever_was_reserved(events, limit):
    _, _, takes = play(events, limit)
    for first in range(len(takes)):
        total = 0
        for at, used in takes[first:]:
            total += used
            assert total * MINUTE_NS <= limit * MINUTE_NS + limit * (at - takes[first][0])


def test_many_open_calls_give_back_all_of_it_or_a_little_less():
    bucket = TokenBucket(PLACE, "tpm", 10**6, 0)
    for now in range(1000):
        bucket.reserve(1000, now)
    assert 0 < len(bucket.lows) <= _MOST_LOWS
    for since in range(1000):
        bucket.settle(1000, 50, since, 1000)
    assert 50_000 <= bucket.used(1000) <= 90_000


def test_a_call_that_outlives_its_window_has_nothing_left_to_give():
    bucket = TokenBucket(PLACE, "tpm", 100, 0)
    bucket.reserve(100, 0)
    bucket.reserve(100, MINUTE_NS)
    bucket.settle(100, 0, 0, MINUTE_NS)
    assert bucket.wait_ns(1, MINUTE_NS) > 0


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(-(10**13), 10**13), st.integers(0, 10**18))
def test_a_saved_state_grants_nothing_twice_and_locks_nobody_out(limit, used, ago, now):
    bucket = Bucket(PLACE, "rpd", limit, 5)
    bucket.take(min(used, limit), 5)
    again = Bucket(PLACE, "rpd", limit, now)
    again.restore(bucket.lacking(5), ago, now)
    full = limit - min(used, limit) + Fraction(max(ago, 0) * limit, WINDOWS["rpd"])
    assert again.remaining(now) <= min(limit, full)
    assert again.wait_ns(1, now) <= -(-WINDOWS["rpd"] // limit)
