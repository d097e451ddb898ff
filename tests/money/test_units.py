"""What is used in other units than tokens: what it costs, and what a hold must cover."""

from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from headgate.money.cost import affordable_output, cost, covers, unit_price, upper_bound, worth
from headgate.money.ownprices import PriceOverride, convert
from headgate.money.prices import scaled
from headgate.stores.sql.check import arithmetic
from headgate.stores.sql.ledger import price_text
from headgate.values import Prices, Usage

IMAGES = (
    ("image:1024x1024:hd", 80_000_000_000),
    ("image:1024x1024", 40_000_000_000),
    ("second", 100_000_000),
)
PRICED = Prices(input=1_000, output=2_000, more=IMAGES)
NAMES = st.sampled_from(
    ["image:1024x1024:hd", "image:1024x1024:low", "image:1024x1024", "second", "second:live"]
)
UNITS = st.lists(st.tuples(NAMES, st.integers(0, 10_000)), max_size=4).map(tuple)
AMOUNTS = st.integers(0, 10**6)


def test_a_unit_costs_what_its_own_row_says_or_the_row_that_its_name_begins_with():
    assert unit_price("image:1024x1024:hd", PRICED) == 80_000_000_000
    assert unit_price("image:1024x1024:low", PRICED) == 40_000_000_000
    assert unit_price("image:512x512", PRICED) is None
    assert unit_price("images", PRICED) is None
    assert cost(Usage(more=(("image:1024x1024:hd", 2),)), PRICED) == 160_000_000
    assert cost(Usage(1_000, 500, more=(("second", 3),)), PRICED) == 1_000 + 1_000 + 300_000


def test_a_target_has_a_price_for_a_unit_or_costs_nothing_at_all():
    assert covers((("second", 1), ("image:1024x1024:hd", 1)), PRICED)
    assert not covers((("second", 1), ("character", 1)), PRICED)
    assert covers((("character", 1),), Prices())
    assert covers((("search", 1),), Prices(input=5, more=(("search", 0),)))
    assert not covers((("search", 1),), Prices(input=5))
    assert not covers((("search", 1),), Prices(more=(("search", 1),), long_above=9, long=Prices(input=5)))


def test_using_only_another_unit_has_the_fee_of_a_call():
    assert cost(Usage(more=(("second", 1),)), Prices(request=7_000, more=(("second", 1_000),))) == 8


@given(UNITS, AMOUNTS, AMOUNTS)
def test_no_usage_within_the_bounds_costs_more_than_the_hold(units, given_tokens, made):
    hold = upper_bound(given_tokens, made, PRICED, units)
    assert cost(Usage(given_tokens, made, more=units), PRICED) == hold
    fits = affordable_output(given_tokens, hold, PRICED, units)
    assert (
        upper_bound(given_tokens, fits, PRICED, units)
        <= hold
        < upper_bound(given_tokens, fits + 1, PRICED, units)
    )
    assert cost(worth(given_tokens, hold, PRICED, units), PRICED) == hold


@given(UNITS, AMOUNTS, AMOUNTS)
def test_the_check_of_the_books_comes_to_the_same(units, given_tokens, made):
    long = Prices(input=3_000, output=5_000, more=(("image", 7), ("second", 100_000_001)))
    for prices in (PRICED, Prices(1_000, 2_000, request=3, long_above=50_000, long=long, more=IMAGES)):
        row = arithmetic.read_row(price_text(prices))
        assert row is not None
        usage = Usage(given_tokens, made, more=units)
        again = arithmetic.nano_usd(arithmetic.tokens((given_tokens, made, 0, 0, 0, 0, 0), units), row)
        assert again == cost(usage, prices)


def test_margins_scale_units_too():
    assert scaled(PRICED, 1_200_000).more[1] == ("image:1024x1024", 48_000_000_000)


def test_own_rows_price_units_in_usd_for_one():
    own = PriceOverride(
        model="painter", input=Decimal(1), output=Decimal(0), units={"image": Decimal("0.04"), "second": Decimal("0.0001")},
        batch=None,
    )  # fmt: skip
    prices, _ = convert(own)
    assert prices.more == (("image", 40_000_000_000), ("second", 100_000_000))


def test_a_price_of_a_unit_below_zero_or_finer_than_a_pico_usd_is_refused():
    for usd in ("-1", "0.0000000000001"):
        own = PriceOverride(model="m", input=Decimal(1), output=Decimal(1), units={"image": Decimal(usd)})
        with pytest.raises(ValueError, match="price of m"):
            convert(own)


def test_a_price_row_without_units_is_kept_as_it_always_was():
    assert price_text(Prices(1, 2)) == "[1,2,0,0,0,0,0,0,0,null]"
    assert price_text(Prices(1, 2, more=(("second", 3),))) == '[1,2,0,0,0,0,0,0,0,null,[["second",3]]]'
