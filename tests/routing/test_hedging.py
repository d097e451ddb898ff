"""When a second target is asked, and how often: pure."""

import pytest

from headgate.routing.hedging import Delay, HedgeTerms, Share

MS = 1_000_000


@pytest.mark.parametrize("percent", [0.1, 1.0, 2.5, 5.0, 33.3, 50.0])
def test_no_more_than_its_share_of_calls_is_ever_sent_twice(percent: float) -> None:
    share, taken = Share(percent), 0
    for calls in range(1, 5_000):
        share.called()
        taken += share.take()
        assert taken * 100 <= calls * percent * 1.000001
    assert taken >= int(4_999 * percent / 100) - 1


def test_few_are_saved_up_for_a_bad_hour() -> None:
    share = Share(5.0)
    for _ in range(100_000):
        share.called()
    assert sum(share.take() for _ in range(100)) == 10


def test_a_fixed_delay_is_known_at_once() -> None:
    delay = Delay(80)
    delay.took(5 * MS)
    assert delay.ns == 80 * MS


def test_the_p95_is_known_after_twenty_answers_and_follows_them() -> None:
    delay = Delay("p95")
    for number in range(19):
        delay.took((number + 1) * MS)
        assert delay.ns == 0
    delay.took(20 * MS)
    assert delay.ns == 20 * MS
    for _ in range(200):
        delay.took(3 * MS)
    assert delay.ns == 3 * MS


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (HedgeTerms(after_ms=0), "after_ms 0 is neither"),
        (HedgeTerms(after_ms=600_001), "after_ms 600001 is neither"),
        (HedgeTerms(after_ms=10, most_percent=0), "most_percent 0 is not above 0"),
        (HedgeTerms(after_ms=10, most_percent=51), "most_percent 51 is not above 0"),
        (HedgeTerms(after_ms="p95", most_percent=50), ""),
    ],
)
def test_wrong_numbers_are_named(terms: HedgeTerms, said: str) -> None:
    assert terms.wrong().startswith(said)
    assert bool(terms.wrong()) is bool(said)
