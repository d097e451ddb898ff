import pytest

from headgate.admission.rate import Rates, go_duration
from headgate.errors import RateLimited
from headgate.values import Principal

SECOND = 1_000_000_000


def admitted(rates: Rates, who: Principal, now: int, tokens: int = 0) -> int:
    count = 0
    while count < 1000:
        try:
            rates.admit(who, tokens, "gpt-4o", now)
        except RateLimited:
            return count
        count += 1
    return count


def test_a_minute_holds_exactly_its_requests_and_refills_evenly():
    rates, who = Rates(), Principal(key=1, project=1, account=1, rpm=3)
    assert admitted(rates, who, 0) == 3
    assert admitted(rates, who, 19 * SECOND) == 0
    assert admitted(rates, who, 20 * SECOND) == 1
    assert admitted(rates, who, 3600 * SECOND) == 3


def test_the_refusal_is_openais_and_says_when_to_come_back():
    rates, who = Rates(), Principal(key=1, project=1, account=1, rpm=3)
    admitted(rates, who, 0)
    with pytest.raises(RateLimited) as caught:
        rates.admit(who, 0, "gpt-4o-mini", 0)
    error = caught.value
    assert (error.http_status, error.error_type, error.code) == (429, "requests", "rate_limit_exceeded")
    assert error.message == (
        "Rate limit reached for gpt-4o-mini on requests per min (RPM): Limit 3, Used 3, Requested 1. "
        "Please try again in 20s."
    )
    assert error.retry_after_s == 20
    assert error.headers["x-ratelimit-remaining-requests"] == "0"


def test_tokens_are_corrected_by_what_was_used():
    rates, who = Rates(), Principal(key=1, project=1, account=1, tpm=100)
    gauge = rates.admit(who, 100, "m", 0)
    with pytest.raises(RateLimited):
        rates.admit(who, 1, "m", 0)
    rates.correct(gauge, 100, 40)
    assert gauge.tokens.remaining(0) == 60


def test_a_request_above_the_limit_can_never_fit():
    rates, who = Rates(), Principal(key=1, project=1, account=1, tpm=100)
    with pytest.raises(RateLimited, match="Request too large") as caught:
        rates.admit(who, 101, "m", 0)
    assert caught.value.retry_after_s is None


def test_a_refused_call_takes_nothing():
    rates, who = Rates(), Principal(key=1, project=1, account=1, rpm=10, tpm=100)
    gauge = rates.gauge(who, 0)
    with pytest.raises(RateLimited):
        rates.admit(who, 101, "m", 0)
    assert (gauge.requests.remaining(0), gauge.tokens.remaining(0), gauge.active) == (10, 100, 0)


def test_calls_at_once_are_counted():
    rates, who = Rates(), Principal(key=1, project=1, account=1, concurrency=2)
    gauge = rates.admit(who, 0, "m", 0)
    rates.admit(who, 0, "m", 0)
    with pytest.raises(RateLimited, match="concurrent"):
        rates.admit(who, 0, "m", 0)
    rates.correct(gauge, 0, 0)
    rates.admit(who, 0, "m", 0)


def test_without_a_limit_there_are_no_headers():
    assert Rates().gauge(Principal(key=1, project=1, account=1), 0).lines(0) == b""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.547, b"547ms"),
        (1, b"1s"),
        (360, b"6m0s"),
        (172.8, b"2m52.8s"),
        (72, b"1m12s"),
        (0, b"0ms"),
        (3600, b"1h0m0s"),
    ],
)
def test_durations_are_written_as_go_does(seconds, text):
    assert go_duration(seconds) == text
