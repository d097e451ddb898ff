"""Which tier an account has earned, and how far the next one is."""

from hypothesis import given, strategies as st

from headgate.money.credit import DAY_US
from headgate.money.promotion import distance, earned
from headgate.money.tiers import Tier, load_tiers
from headgate.values import Limits

USD = 1_000_000_000
GUIDE = load_tiers()
SLOW = tuple(
    Tier(name, name, paid * USD, days, 0, 0, Limits())
    for name, paid, days in (("free", 0, 0), ("one", 5, 0), ("two", 50, 7), ("three", 100, 14))
)


def test_the_guides_tiers_are_earned_by_what_was_paid_in_all() -> None:
    steps = [
        (0, "free"),
        (4, "free"),
        (5, "tier1"),
        (49, "tier1"),
        (50, "tier2"),
        (100, "tier3"),
        (250, "tier4"),
    ]
    for paid, name in [*steps, (999, "tier4"), (1_000, "tier5"), (10_000, "tier5")]:
        assert earned(GUIDE, "free", paid * USD, (1, 2)) == name


def test_a_tier_may_ask_for_days_since_the_first_payment() -> None:
    first = 100 * DAY_US
    assert earned(SLOW, "free", 200 * USD, (first, first)) == "one"
    assert earned(SLOW, "free", 200 * USD, (first, first + 7 * DAY_US - 1)) == "one"
    assert earned(SLOW, "free", 200 * USD, (first, first + 7 * DAY_US)) == "two"
    assert earned(SLOW, "one", 200 * USD, (first, first + 14 * DAY_US)) == "three"
    assert earned(SLOW, "free", 200 * USD, (0, first)) == "one"  # never paid: no day counts


def test_the_distance_says_what_is_missing_and_when() -> None:
    assert distance(GUIDE, "free", 2 * USD, 0) == ("tier1", 3 * USD, 0, 0)
    assert distance(SLOW, "one", 60 * USD, DAY_US) == ("two", 0, 8 * DAY_US, 7)
    assert distance(SLOW, "one", 60 * USD, 0) == ("two", 0, 0, 7)
    assert distance(SLOW, "three", 0, 0) is None
    assert distance(SLOW, "", 0, 0) is None
    assert distance(SLOW, "an agreement", 0, 0) is None


@given(
    st.sampled_from([tier.name for tier in SLOW] + ["", "an agreement"]),
    st.integers(-USD, 200 * USD),
    st.integers(0, 40),
)
def test_nobody_is_ever_demoted_and_who_is_outside_of_the_tiers_stays(
    name: str, paid: int, days: int
) -> None:
    found = earned(SLOW, name, paid, (DAY_US, (days + 1) * DAY_US))
    names = [tier.name for tier in SLOW]
    if name not in names:
        assert found == name
        return
    assert names.index(found) >= names.index(name)
    ahead = distance(SLOW, found, paid, DAY_US)
    if ahead is not None:  # then something is missing, or it is too early
        assert ahead.missing or days < ahead.days
