from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from headgate.money.amounts import format_usd
from headgate.money.cost import UNLIMITED, affordable_output, cost, upper_bound
from headgate.money.prices import PriceBook
from headgate.values import Prices, Usage

NOVEMBER = 1_795_000_000_000_000
GUIDE = PriceBook.load(book="guide-2025")
PICO = st.integers(0, 10**9)
TOKENS = st.integers(0, 2_000_000)


def bands(levels):
    parts = st.builds(Prices, PICO, PICO, PICO, PICO, PICO, PICO, PICO, PICO)
    return st.builds(above, parts, st.integers(1, 500_000), bands(levels - 1)) if levels else parts


def above(prices, tokens, long):
    if long.long:
        long = replace(long, long_above=long.long_above + tokens)
    return replace(prices, long_above=tokens, long=long)


ANY_PRICES = st.one_of(bands(0), bands(1), bands(2))


@st.composite
def usages(draw, most_in=2_000_000, most_out=2_000_000):
    tokens_in = draw(st.integers(0, most_in))
    tokens_out = draw(st.integers(0, most_out))
    cached = draw(st.integers(0, tokens_in))
    written = draw(st.integers(0, tokens_in - cached))
    audio_in = draw(st.integers(0, tokens_in - cached - written))
    reasoning = draw(st.integers(0, tokens_out))
    audio_out = draw(st.integers(0, tokens_out - reasoning))
    return Usage(tokens_in, tokens_out, cached, written, reasoning, audio_in, audio_out)


def guide(model, calls, tokens_in, tokens_out):
    prices = GUIDE.find("openai", model, NOVEMBER).prices
    return format_usd(calls * cost(Usage(tokens_in, tokens_out), prices))


def test_the_guide_s_thousand_calls_of_gpt_3_5_turbo_cost_85_cents():
    assert guide("gpt-3.5-turbo", 1_000, 300, 200) == "$0.85"


def test_the_guide_s_hundred_calls_of_gpt_4_cost_8_dollars_40():
    assert guide("gpt-4", 100, 1_200, 800) == "$8.40"


def test_the_guide_s_month_of_a_thousand_calls_a_day_costs_25_dollars_50():
    assert guide("gpt-3.5-turbo", 1_000 * 30, 300, 200) == "$25.50"


def test_the_smallest_part_of_a_nano_is_rounded_up_once_per_call():
    prices = Prices(input=37_500, output=1)
    assert cost(Usage(1, 0), prices) == 38
    assert cost(Usage(1, 1), prices) == 38
    assert cost(Usage(1_000, 0), prices) == 37_500
    assert cost(Usage(0, 0), prices) == 0


def test_a_golden_call_with_every_part():
    prices = Prices(2_500_000, 10_000_000, 1_250_000, 3_125_000, 10_000_000, 40_000_000, 80_000_000)
    usage = Usage(1_000, 500, 400, 100, 200, 50, 30)
    # 450 text, 400 cached, 100 written, 50 audio; 270 text, 200 reasoning, 30 audio
    nano = (450 * 2_500 + 400 * 1_250 + 100 * 3_125 + 50 * 40_000) + (470 * 10_000 + 30 * 80_000)
    assert cost(usage, prices) == nano


def test_a_long_input_is_charged_by_the_long_band_as_a_whole():
    long = Prices(input=4_000_000, output=15_000_000, request=7)
    prices = Prices(input=2_000_000, output=10_000_000, long_above=272_000, long=long)
    assert cost(Usage(272_000, 10), prices) == 272_000 * 2_000 + 10 * 10_000
    assert cost(Usage(272_001, 10), prices) == 272_001 * 4_000 + 10 * 15_000 + 1


def test_parts_above_their_total_are_counted_as_far_as_the_total_goes():
    prices = Prices(input=10_000, output=20_000, cached_input=1_000, reasoning=20_000)
    assert cost(Usage(10, 5, cached_tokens=50, reasoning_tokens=50), prices) == 10 + 100


@given(usages(), ANY_PRICES)
def test_the_cost_is_the_exact_sum_rounded_up(usage, prices):
    while prices.long and usage.input_tokens > prices.long_above:
        prices = prices.long
    text_in = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens - usage.input_audio_tokens
    text_out = usage.output_tokens - usage.reasoning_tokens - usage.output_audio_tokens
    used = usage.input_tokens or usage.output_tokens  # else it was refused, and has no fee
    pico = Fraction(prices.request if used else 0) + text_in * prices.input + text_out * prices.output
    pico += usage.cached_tokens * prices.cached_input
    pico += usage.cache_write_tokens * prices.cache_write
    pico += usage.input_audio_tokens * prices.input_audio
    pico += usage.reasoning_tokens * prices.reasoning
    pico += usage.output_audio_tokens * prices.output_audio
    assert cost(usage, prices) == ceil(pico / 1_000)


@given(st.builds(Usage, *[TOKENS] * 7), ANY_PRICES, TOKENS, TOKENS)
def test_any_usage_within_the_token_bounds_costs_at_most_the_bound(usage, prices, more, extra):
    bound = upper_bound(usage.input_tokens + more, usage.output_tokens + extra, prices)
    assert 0 <= cost(usage, prices) <= bound


@given(TOKENS, TOKENS, bands(0))
def test_the_bound_is_what_the_dearest_usage_costs(tokens_in, tokens_out, prices):
    sides_in = [{}, *({part: tokens_in} for part in ("cached_tokens", "cache_write_tokens"))]
    sides_in.append({"input_audio_tokens": tokens_in})
    sides_out = [{}, {"reasoning_tokens": tokens_out}, {"output_audio_tokens": tokens_out}]
    dearest = max(
        cost(Usage(tokens_in, tokens_out, **one, **other), prices) for one in sides_in for other in sides_out
    )
    bound = upper_bound(tokens_in, tokens_out, prices)
    if tokens_in or tokens_out:
        assert bound == dearest
    else:  # a refused call uses nothing and pays no fee
        assert dearest == 0 <= bound


@given(TOKENS, st.integers(0, 10**13), ANY_PRICES)
def test_the_output_that_money_buys_fits_and_one_token_more_does_not(tokens_in, money, prices):
    fits = affordable_output(tokens_in, money, prices)
    assert 0 <= fits <= UNLIMITED
    if fits:
        assert upper_bound(tokens_in, fits, prices) <= money
    if fits < UNLIMITED:
        assert upper_bound(tokens_in, fits + 1, prices) > money


def test_no_output_fits_where_the_input_alone_does_not():
    assert affordable_output(1_000, 999, Prices(input=1_000, output=1)) == 0


def test_free_output_is_unlimited():
    assert affordable_output(1_000, 1_000, Prices(input=1_000)) == UNLIMITED


@pytest.mark.parametrize("tokens", [2**31, 2**40])
def test_sums_beyond_64_bits_of_pico_stay_exact(tokens):
    assert cost(Usage(tokens, 0), Prices(input=30_000_001)) == -(-tokens * 30_000_001 // 1_000)
