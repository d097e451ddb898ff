import pytest
from hypothesis import given, strategies as st

from headgate.money.amounts import MAX_NANO, format_usd, parse_cap, parse_usd


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("20", 20_000_000_000),
        ("$20", 20_000_000_000),
        (" 0.85 ", 850_000_000),
        ("0.000000001", 1),
        ("0", 0),
        ("9223372036.854775807", MAX_NANO),
    ],
)
def test_an_amount_is_read_exactly(text, nano):
    assert parse_usd(text) == nano


@pytest.mark.parametrize(
    "text",
    [
        *("", "$", "-1", "+1", "1,000", "1e3", ".5", "5.", "1.2.3", "NaN", "inf", "20 USD", "٣"),
        *("1_000", "0.0000000001", "9223372036.854775808", "9999999999999", "$$1", "20/month"),
    ],
)
def test_what_is_no_amount_is_refused_with_the_text_in_the_message(text):
    with pytest.raises(ValueError, match=r"amount|books can hold") as caught:
        parse_usd(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (850_000_000, "$0.85"),
        (8_400_000_000, "$8.40"),
        (25_500_000_000, "$25.50"),
        (0, "$0.00"),
        (1, "$0.000000001"),
        (-1_250_000, "-$0.00125"),
        (20_000_000_000, "$20.00"),
    ],
)
def test_an_amount_is_printed_exactly_with_two_decimals_at_least(nano, text):
    assert format_usd(nano) == text


@given(st.integers(0, MAX_NANO))
def test_what_is_printed_is_read_back_as_the_same_amount(nano):
    assert parse_usd(format_usd(nano)) == nano


@pytest.mark.parametrize(
    ("text", "cap"),
    [
        ("20/month", (20_000_000_000, "month")),
        ("20", (20_000_000_000, "month")),
        ("$5/day", (5_000_000_000, "day")),
        ("2.50 / week", (2_500_000_000, "week")),
        ("100/total", (100_000_000_000, "total")),
    ],
)
def test_a_cap_has_an_amount_and_a_period(text, cap):
    assert parse_cap(text) == cap


@pytest.mark.parametrize("text", ["20/", "20/year", "/month", "-5/day", "20/month/day", ""])
def test_what_is_no_cap_is_refused(text):
    with pytest.raises(ValueError, match=r"period|amount"):
        parse_cap(text)
