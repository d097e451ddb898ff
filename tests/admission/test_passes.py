"""A gate with passes lets in, and tells, what one does that looks at its meters for each call."""

from hypothesis import given, settings, strategies as st

from headgate.admission.gates import Gate
from headgate.admission.limits import LimitRow, LimitTable
from headgate.admission.meters import MINUTE_NS, Count, Place, TokenBucket
from headgate.admission.passes import LASTS_NS
from headgate.admission.rate import Rates
from headgate.values import Limits, Principal

KEYS = (1, 2)


def who(key, **limits):
    return Principal(key=key, project=2, account=3, account_id="org-x", project_id="proj-x", **limits)


def own(limits, account, once):
    """Two keys of an account, in a process of their own."""
    rates = Rates(LimitTable([LimitRow("account", 3, "", Limits(rpm=account, tpm=9 * account))]))
    callers = [who(key, rpm=limits, tpm=7 * limits, concurrency=once) for key in KEYS]
    return rates, [rates.gate(caller, "m", 0) for caller in callers]


def plain(limits, account, once):
    """The same, where each call looks at each meter."""

    def bucket(scope, ref, kind, limit):
        return TokenBucket(Place(scope, ref), kind, limit, 0)

    shared = bucket("account", 3, "rpm", account), bucket("account", 3, "tpm", 9 * account)
    return [
        Gate(
            who(key),
            (bucket("key", key, "rpm", limits), shared[0]),
            (bucket("key", key, "tpm", 7 * limits), shared[1]),
            (Count(Place("key", key), once),),
        )
        for key in KEYS
    ]


limits = st.tuples(st.integers(1, 40), st.integers(1, 60), st.integers(1, 20))
events = st.tuples(
    st.sampled_from((0, 0, 0, LASTS_NS, 3 * LASTS_NS, MINUTE_NS // 40, MINUTE_NS)),  # since the one before
    st.integers(0, 1),  # whose
    st.sampled_from(("call", "call", "end", "end", "told")),
    st.integers(0, 60),
    st.integers(0, 80),
)


@settings(deadline=None)
@given(limits, st.lists(events, max_size=80))
def test_at_one_moment_and_a_pass_later_it_is_the_same(sizes, done):
    rates, gates = own(*sizes)
    others = plain(*sizes)
    now, tickets = 0, []
    for gap, whose, what, tokens, used in done:
        now += gap
        gate, other = gates[whose], others[whose]
        if what == "call":
            ticket, its = gate.admit(tokens, now), other.admit(tokens, now)
            assert (ticket is None) == (its is None)
            if ticket is not None:
                tickets.append((ticket, its))
        elif what == "end" and tickets:
            ticket, its = tickets.pop(used % len(tickets))
            rates.settle(ticket, used, now)
            its.gate.settle(its, used, now)
        elif what == "told":
            for each, same in zip(gates, others, strict=True):
                each.close()
                assert each.lines(now) == same.lines(now)
    for each, same in zip(gates, others, strict=True):
        each.close()
        assert each.lines(now) == same.lines(now)
        assert [count.open for count in each.counts] == [count.open for count in same.counts]
        pairs = zip((*each.requests, *each.tokens), (*same.requests, *same.tokens), strict=True)
        for bucket, twin in pairs:
            assert max(bucket.due - now * bucket.limit, 0) == max(twin.due - now * twin.limit, 0)
            assert bucket.reserved == twin.reserved


@settings(deadline=None)
@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.integers(0, 2 * LASTS_NS), st.integers(0, 1)), min_size=1, max_size=200),
)
def test_within_a_pass_no_more_is_let_in_and_the_headers_are_true_within_one(limit, steps):
    _, gates = own(limit, 1000, 1000)
    now, let_in = 0, []
    for gap, whose in steps:
        now += gap
        if gates[whose].admit(1, now) is not None and whose == 0:
            let_in.append(now)
        line = gates[0].lines(now).split(b"\r\n")[1]
        taken = sum(1 for at in let_in if at > now - MINUTE_NS)
        assert (
            abs(
                int(line.split(b": ")[1])
                - (limit - taken + (now - let_in[0] if let_in else 0) * limit // MINUTE_NS)
            )
            <= 1
        )
    for first, at in enumerate(let_in):
        for count, later in enumerate(let_in[first:], start=1):
            assert count <= limit + limit * (later - at) // MINUTE_NS


odd_events = st.tuples(
    st.one_of(st.integers(0, 2 * LASTS_NS), st.integers(0, 2 * LASTS_NS), st.integers(0, MINUTE_NS // 4)),
    st.integers(0, 1),
    st.sampled_from(("call", "call", "call", "end", "end", "told")),
    st.integers(0, 60),
    st.integers(0, 80),
)


@settings(deadline=None)
@given(limits, st.lists(odd_events, max_size=80))
def test_whenever_they_come_a_meter_lacks_no_less_than_if_each_call_had_looked_at_it(sizes, done):
    rates, gates = own(*sizes)
    others = plain(*sizes)
    now, tickets = 0, []
    for gap, whose, what, tokens, used in done:
        now += gap
        if what == "call":
            ticket = gates[whose].admit(tokens, now)
            if ticket is not None:
                tickets.append((ticket, others[whose].take(tokens, now)))
        elif what == "end" and tickets:
            ticket, its = tickets.pop(used % len(tickets))
            rates.settle(ticket, used, now)
            its.gate.settle(its, used, now)
        elif what == "told":
            gates[whose].close()
    for each, same in zip(gates, others, strict=True):
        each.close()
        pairs = zip((*each.requests, *each.tokens), (*same.requests, *same.tokens), strict=True)
        for bucket, twin in pairs:
            assert max(bucket.due - now * bucket.limit, 0) >= max(twin.due - now * twin.limit, 0)


def test_what_a_pass_took_is_seen_by_whoever_looks_at_the_meters():
    rates, (gate, other) = own(10, 3, 9)
    assert gate.admit(0, 0)
    assert gate.admit(0, 1)
    assert other.admit(0, 2)
    assert not other.admit(0, 3)
    assert not gate.admit(0, 4)
    found = {each.name: each.lacking for each in rates.readings(5)}
    assert round(found["account:3::rpm"] / 1e6) == 3
    assert round(found["key:1::rpm"] / 1e6) == 2


def test_a_pass_is_not_lost_with_the_gate_that_had_it():
    rates, (gate, _) = own(10, 3, 9)
    assert gate.admit(0, 0)
    assert gate.admit(0, 0)
    rates.replace(LimitTable([LimitRow("account", 3, "", Limits(rpm=3))]))
    again = rates.gate(gate.principal, "m", 0)
    assert again.admit(0, 0)
    assert not again.admit(0, 0)


def test_a_call_outlives_the_pass_that_let_it_in():
    rates, (gate, _) = own(10, 100, 9)
    ticket = gate.admit(60, 0)
    assert gate.admit(0, 2 * LASTS_NS)  # another pass is open
    rates.settle(ticket, 20, 2 * LASTS_NS)
    assert b"x-ratelimit-remaining-tokens: 50" in gate.lines(2 * LASTS_NS)
    assert not gate.admit(51, 2 * LASTS_NS)
    assert gate.admit(50, 2 * LASTS_NS)
