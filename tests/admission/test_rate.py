import pytest

from headgate.admission.durations import go_duration
from headgate.admission.limits import LimitRow, LimitTable
from headgate.admission.rate import Rates, Reading
from headgate.errors import RateLimited
from headgate.money.tiers import Tier, load_tiers
from headgate.values import Book, Limits, Principal

SECOND = 1_000_000_000
MINUTE, DAY = 60 * SECOND, 86_400 * SECOND


def who(key=1, **more):
    return Principal(
        **({"key": key, "project": 2, "account": 3, "account_id": "org-x", "project_id": "proj-x"} | more)
    )


def admit(rates, principal, tokens=0, now=0, model="gpt-4o-mini"):
    gate = rates.gate(principal, model, now)
    ticket = gate.admit(tokens, now)
    if ticket is None:
        raise gate.refusal(model, tokens, now)
    return ticket


def admitted(rates, principal, now, tokens=0, model="gpt-4o-mini"):
    count = 0
    while count < 1000:
        try:
            admit(rates, principal, tokens, now, model)
        except RateLimited:
            return count
        count += 1
    return count


def refused(rates, principal, tokens=0, now=0, model="gpt-4o-mini"):
    with pytest.raises(RateLimited) as caught:
        admit(rates, principal, tokens, now, model)
    return caught.value


def told(rates, principal, now=0, model="gpt-4o-mini"):
    lines = rates.lines(principal, model, now).decode()
    assert not lines or lines.endswith("\r\n")
    return dict(line.removeprefix("x-ratelimit-").split(": ") for line in lines.splitlines())


def limited(*rows, tiers=()):
    return Rates(LimitTable([LimitRow(*row) for row in rows], tiers))


# ── what fits ────────────────────────────────────────────────────────────────────────────────────


def test_a_minute_holds_exactly_its_requests_and_refills_evenly():
    rates, caller = Rates(), who(rpm=3)
    assert admitted(rates, caller, 0) == 3
    assert admitted(rates, caller, 20 * SECOND - 1) == 0
    assert admitted(rates, caller, 20 * SECOND) == 1
    assert admitted(rates, caller, 3600 * SECOND) == 3


def test_a_day_holds_exactly_its_requests():
    rates, caller = Rates(), who(rpd=200)
    assert admitted(rates, caller, 0) == 200
    assert admitted(rates, caller, DAY // 200) == 1
    assert admitted(rates, caller, 5 * DAY) == 200


def test_a_refused_call_takes_nothing_of_any_meter():
    rates, caller = Rates(), who(rpm=10, tpm=100, rpd=50, tpd=90, concurrency=5)
    before = told(rates, caller)
    refused(rates, caller, 95)
    assert told(rates, caller) == before
    assert admitted(rates, caller, 0, tokens=1) == 5


def test_calls_at_once_are_counted_and_freed_by_every_end():
    rates, caller = Rates(), who(concurrency=2)
    first, second = admit(rates, caller), admit(rates, caller)
    error = refused(rates, caller)
    assert "on concurrent requests: Limit 2, Used 2, Requested 1. Please try again in 1s." in error.message
    assert error.retry_after_s == 1
    rates.settle(first, 0, 0)
    rates.settle(first, 0, 0)
    third = admit(rates, caller)
    refused(rates, caller)
    rates.cancel(second, 0)
    rates.cancel(third, 0)
    assert admitted(rates, caller, 0) == 2


def test_a_call_of_a_key_that_has_changed_is_counted_when_gates_are_forgotten():
    rates, renamed = Rates(), who(concurrency=1, name="renamed")
    ticket = admit(rates, who(concurrency=1))
    rates.gate(renamed, "gpt-4o-mini", 0)
    rates.prune(0)
    refused(rates, renamed)
    rates.settle(ticket, 0, 0)
    assert admitted(rates, renamed, 0) == 1


def test_a_call_is_counted_in_all_that_bound_calls_at_once_or_in_none():
    rates = Rates(LimitTable([LimitRow("account", 3, "", Limits(concurrency=3))]))
    one, other = who(key=1, concurrency=2), who(key=2, concurrency=2)
    held = [admit(rates, caller) for caller in (one, one, other)]
    refused(rates, other)
    refused(rates, one)
    rates.gate(one, "m", 0).close()
    counts = [[count.open for count in rates.gate(caller, "m", 0).counts] for caller in (one, other)]
    assert sorted(counts[0]) == [2, 3]
    assert sorted(counts[1]) == [1, 3]
    for ticket in held:
        rates.settle(ticket, 0, 0)
    assert admitted(rates, other, 0) == 2


def test_tokens_are_corrected_by_what_was_used():
    rates, caller = Rates(), who(tpm=100, tpd=1000)
    ticket = admit(rates, caller, 100)
    assert refused(rates, caller, 1).kind == "tokens"
    rates.settle(ticket, 40, 0)
    assert told(rates, caller)["remaining-tokens"] == "60"
    ticket = admit(rates, caller, 10)
    rates.settle(ticket, 80, 0)
    assert told(rates, caller)["remaining-tokens"] == "0"
    assert refused(rates, caller, 1).retry_after_s == pytest.approx(0.6 * 21)


def test_a_call_that_we_refuse_after_its_limits_counts_nothing():
    rates, caller = Rates(), who(rpm=3, tpm=100)
    rates.cancel(admit(rates, caller, 70), 0)
    assert told(rates, caller)["remaining-requests"] == "3"
    assert told(rates, caller)["remaining-tokens"] == "100"


@pytest.mark.parametrize(("counts", "left"), [(True, 2), (False, 3)])
def test_a_call_that_fails_at_its_provider_counts_if_it_shall(counts, left):
    rates, caller = Rates(count_failed=counts), who(rpm=3)
    rates.settle(admit(rates, caller), 0, 0, failed=True)
    assert told(rates, caller)["remaining-requests"] == str(left)
    rates.settle(admit(rates, caller), 9, 0)
    assert told(rates, caller)["remaining-requests"] == str(left - 1)


# ── whose ────────────────────────────────────────────────────────────────────────────────────────


def test_key_project_and_account_all_bound_a_call():
    rates = limited(
        ("project", 2, "", Limits(rpm=5)), ("account", 3, "", Limits(rpm=8)), ("key", 9, "", Limits(rpm=1))
    )
    assert admitted(rates, who(1, rpm=3), 0) == 3
    assert admitted(rates, who(2), 0) == 2  # the project's are used up
    assert admitted(rates, who(3, project=7), 0) == 3  # and then the account's
    assert admitted(rates, who(4, project=7), 0) == 0
    assert admitted(rates, who(9, project=8, account=8), 0) == 1


def test_a_key_keeps_the_tighter_of_its_own_limit_and_its_row():
    assert admitted(limited(("key", 1, "", Limits(rpm=2))), who(rpm=5), 0) == 2
    assert admitted(limited(("key", 1, "", Limits(rpm=5))), who(rpm=2), 0) == 2


def test_a_model_has_meters_of_its_own_beside_the_general_ones():
    rates = limited(
        ("account", 3, "gpt-4*", Limits(rpm=4)),
        ("account", 3, "gpt-4o-mini", Limits(rpm=2)),
        ("account", 3, "gpt-4o*", Limits(rpm=3)),
        ("account", 3, "", Limits(rpm=8)),
    )
    assert admitted(rates, who(), 0, model="gpt-4o-mini") == 2  # a name stands before a pattern
    assert admitted(rates, who(), 0, model="gpt-4o") == 3  # and a longer one before a shorter
    assert admitted(rates, who(), 0, model="other") == 3


def test_play_money_is_counted_apart():
    rates = limited(("account", 3, "", Limits(rpm=2)))
    assert admitted(rates, who(1), 0) == 2
    assert admitted(rates, who(2, book=Book.SIM), 0) == 2


def test_a_tier_bounds_an_account_and_a_row_may_allow_more():
    free = who(tier="free")
    assert admitted(limited(tiers=load_tiers()), free, 0) == 3
    raised = limited(("account", 3, "", Limits(rpm=7)), tiers=load_tiers())
    assert admitted(raised, free, 0) == 7
    assert told(raised, free)["limit-tokens"] == "40000"  # what the row does not say is the tier's
    assert admitted(limited(tiers=load_tiers()), who(tier="gone"), 0) == 1000
    assert admitted(limited(tiers=load_tiers()), who(), 0) == 1000


def test_a_tiers_limits_of_a_model_stand_in_for_its_other_ones():
    tier = Tier("t", "T", 0, 0, 0, 250, Limits(rpm=3), (("mini*", Limits(rpm=5)),))
    rates = limited(tiers=[tier])
    assert admitted(rates, who(tier="t"), 0, model="mini-1") == 5
    assert admitted(rates, who(tier="t"), 0, model="large") == 3
    assert rates.gate(who(tier="t"), "large", 0).queue_ms == 250
    assert rates.gate(who(tier="t", queue_ms=9), "large", 0).queue_ms == 9


def test_a_changed_limit_keeps_what_is_used():
    rates, caller = limited(("account", 3, "", Limits(rpm=10))), who()
    for _ in range(4):
        admit(rates, caller)
    rates.replace(LimitTable([LimitRow("account", 3, "", Limits(rpm=6))]))
    assert admitted(rates, caller, 0) == 2
    rates.replace(LimitTable([LimitRow("account", 3, "", Limits(rpm=3))]))
    assert refused(rates, caller).retry_after_s == 20  # more than all of it is never lacking
    rates.replace(LimitTable([LimitRow("account", 3, "", Limits(rpm=100))]))
    assert told(rates, caller)["remaining-requests"] == "97"
    rates.replace(LimitTable())
    assert told(rates, caller) == {}


def test_an_open_call_outlives_a_change_of_its_limit():
    rates, caller = limited(("account", 3, "", Limits(tpm=1000, concurrency=1))), who()
    ticket = admit(rates, caller, 500)
    rates.replace(LimitTable([LimitRow("account", 3, "", Limits(tpm=2000, concurrency=1))]))
    refused(rates, caller)
    rates.settle(ticket, 100, 0)
    assert told(rates, caller)["remaining-tokens"] == "1900"
    assert admitted(rates, caller, 0) == 1


def test_meters_that_say_nothing_are_let_go_and_the_others_stay():
    rates = Rates()
    for key in range(30_000):
        admit(rates, who(key, rpm=1), now=0)
    assert admitted(rates, who(29_999, rpm=1), 1) == 0
    rates.prune(2 * MINUTE)
    assert rates._buckets == {}
    ticket = admit(rates, who(5, rpm=1, concurrency=1), now=2 * MINUTE)
    rates.prune(9 * MINUTE)
    assert "concurrent" in refused(rates, who(5, rpm=1, concurrency=1), now=9 * MINUTE).message
    rates.settle(ticket, 0, 9 * MINUTE)


# ── what is said ─────────────────────────────────────────────────────────────────────────────────


def test_the_refusal_is_openais_and_says_when_to_come_back():
    rates, caller = Rates(), who(rpm=3, name="ci")
    admitted(rates, caller, 0)
    error = refused(rates, caller)
    assert (error.http_status, error.error_type, error.code) == (429, "requests", "rate_limit_exceeded")
    assert error.message == (
        "Rate limit reached for gpt-4o-mini in organization org-x on requests per min (RPM): Limit 3, Used 3, "
        "Requested 1. Please try again in 20s. This is the limit of the key 'ci'."
    )
    assert error.retry_after_s == 20


def test_the_numbers_of_a_token_refusal_are_those_of_the_public_record():
    rates = limited(("project", 2, "", Limits(tpm=50_000)))
    admit(rates, who(), 47_949)
    error = refused(rates, who(), 3_006, model="gpt-4o")
    assert error.error_type == "tokens"
    assert (
        "on tokens per min (TPM): Limit 50000, Used 47949, Requested 3006. Please try again in 1.146s. "
        "This is the limit of the project proj-x."
    ) in error.message


def test_each_window_is_named():
    for kind, words in [("rpd", "requests per day (RPD)"), ("tpd", "tokens per day (TPD)")]:
        rates, caller = Rates(), who(**{kind: 1})
        admit(rates, caller, 1)
        assert f"on {words}: Limit 1, Used 1, Requested 1. Please try again in 24h0m0s." in (
            refused(rates, caller, 1).message
        )


def test_a_request_above_the_limit_can_never_fit():
    rates = limited(("account", 3, "gpt*", Limits(tpm=30_000)), tiers=load_tiers())
    error = refused(rates, who(tier="free"), 34_307, model="gpt-4o")
    assert error.retry_after_s is None
    assert error.message == (
        "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 34307. "
        "The input or output tokens must be reduced in order to run successfully. "
        "This is the limit of the organization, tier free for gpt*."
    )


def test_of_several_meters_the_wait_is_the_longest():
    rates, caller = Rates(), who(rpm=1, rpd=1)
    admit(rates, caller)
    assert refused(rates, caller).retry_after_s == 86_400


def test_of_several_meters_the_headers_tell_the_one_with_the_fewest_left():
    rates = limited(
        ("project", 2, "", Limits(rpm=500, tpm=900)), ("account", 3, "", Limits(tpm=1000, rpd=500))
    )
    caller = who(tpd=1200)
    assert told(rates, caller) == {
        "limit-requests": "500",
        "remaining-requests": "500",
        "reset-requests": "0ms",
        "limit-tokens": "900",
        "remaining-tokens": "900",
        "reset-tokens": "0ms",
        "limit-project-tokens": "900",
        "remaining-project-tokens": "900",
        "reset-project-tokens": "0ms",
    }
    admit(rates, caller, 600)
    now = 40 * SECOND  # the minute is full again, the day not
    seen = told(rates, caller, now)
    assert (seen["limit-requests"], seen["remaining-requests"]) == ("500", "499")
    assert (seen["limit-tokens"], seen["remaining-tokens"]) == ("1200", "600")
    assert (seen["limit-project-tokens"], seen["remaining-project-tokens"]) == ("900", "900")


def test_without_a_limit_there_are_no_headers():
    assert told(Rates(), who()) == {}


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (547 * 10**6, b"547ms"),
        (SECOND, b"1s"),
        (1_145_600_001, b"1.146s"),
        (360 * SECOND, b"6m0s"),
        (172_800 * 10**6, b"2m52.8s"),
        (72 * SECOND, b"1m12s"),
        (0, b"0ms"),
        (1, b"1ms"),
        (999_999_999, b"1s"),
        (59_999_500_000, b"1m0s"),
        (3600 * SECOND, b"1h0m0s"),
        (100 * 3600 * SECOND + 50_000_000, b"100h0m0.05s"),
    ],
)
def test_durations_are_written_as_go_does(ns, text):
    assert go_duration(ns) == text


# ── across restarts ──────────────────────────────────────────────────────────────────────────────


def restarted(rates, now, ago_ns=0, then=10**12, caller=None):
    """A new process, whose clock has another zero."""
    found = [Reading(each.name, each.lacking, ago_ns) for each in rates.readings(now)]
    again = Rates()
    again.restore(found, then)
    return again


def test_windows_go_on_after_a_restart():
    rates, caller = Rates(), who(rpm=3, tpd=100)
    admit(rates, caller, 70)
    admit(rates, caller, 20)
    again = restarted(rates, 0, ago_ns=5 * SECOND)
    assert told(again, caller, 10**12)["remaining-requests"] == "1"
    assert told(again, caller, 10**12)["remaining-tokens"] == "10"
    late = restarted(rates, 0)
    assert late.readings(0) == []


def test_a_state_from_the_future_or_of_a_larger_limit_locks_nobody_out():
    rates, caller = Rates(), who(rpm=60)
    admitted(rates, caller, 0)
    again = restarted(rates, 0, ago_ns=-3600 * SECOND)
    assert admitted(again, caller, 10**12 + SECOND) == 1
    smaller = restarted(Rates(), 0)
    smaller.restore([Reading("key:1::rpm", 10**15)], 0)
    assert admitted(smaller, caller, 2 * SECOND) == 2


def test_only_what_changed_is_read():
    rates = Rates()
    admit(rates, who(1, rpm=3))
    assert [each.name for each in rates.readings(0)] == ["key:1::rpm"]
    assert rates.readings(0) == []
    ticket = admit(rates, who(2, tpm=30), 20)
    assert rates.readings(0) == [Reading("key:2::tpm", 20_000_000)]
    rates.settle(ticket, 5, 0)
    assert rates.readings(0) == [Reading("key:2::tpm", 5_000_000)]
