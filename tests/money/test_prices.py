from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, strategies as st

from headgate.app import build_routes
from headgate.cli.compose import price_book
from headgate.config import ServeOptions, load
from headgate.money.pricedata import PriceData, day_micros
from headgate.money.prices import Margin, PriceBook, PriceOverride, PriceParts, read_book
from headgate.values import Book, Prices

DATA = PriceData.load()
NOW = day_micros("2026-11-24")
DAY = 86_400 * 1_000_000


def book(*overrides, margins=(), name="default"):
    return PriceBook.load(overrides, margins, name, DATA)


def own(model="gpt-4o", provider="*", **fields):
    prices = {"input": Decimal(1), "output": Decimal(2)}
    return PriceOverride(model=model, provider=provider, **(prices | fields))


def input_price(prices, provider="openai", model="gpt-4o", at=NOW):
    row = prices.find(provider, model, at)
    return None if row is None else row.prices.input


def test_the_default_book_gives_todays_price_with_its_source_and_date():
    row = book().find("openai", "gpt-4o", NOW)
    assert (row.prices.input, row.prices.cached_input, row.prices.output) == (
        2_500_000,
        1_250_000,
        10_000_000,
    )
    assert row.batch.input == 1_250_000
    assert row.source.startswith("genai-prices ")
    assert "https://" in row.source
    assert row.dated == DATA.dated
    assert row.context_window == 128_000
    assert (row.provider, row.model) == ("openai", "gpt-4o")


@pytest.mark.parametrize(
    ("model", "usd_in", "usd_out", "window"),
    [
        ("gpt-3.5-turbo", "0.0015", "0.002", 16_384),
        ("gpt-4", "0.03", "0.06", 8_192),
        ("gpt-4-turbo", "0.01", "0.03", 128_000),
        ("gpt-4o", "0.005", "0.015", 128_000),
        ("gpt-5", "0.01", "0.03", 200_000),
    ],
)
def test_the_guide_s_table_is_shipped_to_the_last_digit(model, usd_in, usd_out, window):
    row = book(name="guide-2025").find("openai", model, NOW)
    assert row.prices.input == Decimal(usd_in) * 10**12 / 1_000
    assert row.prices.output == Decimal(usd_out) * 10**12 / 1_000
    assert row.context_window == window
    assert "2025" in row.dated


def test_the_guide_s_book_covers_whole_names_only_and_leaves_the_rest_as_it_is():
    guide, today = book(name="guide-2025"), book()
    for model in ("gpt-4o-2024-08-06", "gpt-4o-mini", "gpt-5.4"):
        assert guide.find("openai", model, NOW) == today.find("openai", model, NOW)


def test_an_unknown_model_or_provider_is_unpriced():
    assert book().find("openai", "gpt-99", NOW) is None
    assert book().find("nobody", "gpt-4o", NOW) is None


def test_a_row_of_the_configuration_wins_over_a_book_and_a_book_over_the_data():
    assert input_price(book(own())) == 1_000_000
    assert input_price(book(own(), name="guide-2025")) == 1_000_000
    assert input_price(book(own("gpt-4"), name="guide-2025")) == 5_000_000


def test_a_whole_name_wins_over_a_beginning_and_a_later_row_over_an_earlier():
    rows = [own("gpt-4*", input=Decimal(7)), own("gpt-4o"), own("gpt-4o*", input=Decimal(8))]
    assert input_price(book(*rows)) == 1_000_000
    assert input_price(book(*rows), model="gpt-4-turbo") == 7_000_000
    assert input_price(book(*rows), model="gpt-4o-mini") == 8_000_000
    assert input_price(book(own(input=Decimal(3)), own(input=Decimal(4)))) == 4_000_000


def test_the_most_specific_row_holds_wherever_it_stands():
    rows = [
        own("gpt-4o", "acme", input=Decimal(1)),
        own("gpt-4o", input=Decimal(2), since="2026-11-01"),
        own("gpt-4*", input=Decimal(3)),
        own("gpt-*", "acme", input=Decimal(4)),
        own("*", "acme", input=Decimal(5)),
        own("*", input=Decimal(6)),
    ]
    for order in (rows, rows[::-1]):
        prices = book(*order)
        found = [
            input_price(prices, *asked) // 1_000_000
            for asked in [
                ("acme", "gpt-4o"), ("openai", "gpt-4o"), ("acme", "gpt-4.1"), ("acme", "gpt-5"),
                ("acme", "o3"), ("openai", "gpt-5"),
            ]
        ]  # fmt: skip
        assert found == [1, 2, 3, 4, 5, 6]


def test_a_row_for_a_provider_leaves_the_others_alone():
    prices = book(own("m", "acme"))
    assert input_price(prices, "acme", "m") == 1_000_000
    assert input_price(prices, "openai", "m") is None
    assert input_price(book(own("grok-9", "xai")), "x-ai", "grok-9") is None
    assert input_price(book(own("grok-9", "x-ai")), "xai", "grok-9") == 1_000_000


def test_a_dated_row_holds_from_its_day_on_and_the_cache_notices():
    prices = book(own(since="2026-11-20"), own(since="2026-12-01", input=Decimal(3)))
    assert input_price(prices, at=day_micros("2026-11-20") - 1) == 2_500_000
    assert input_price(prices, at=day_micros("2026-11-20")) == 1_000_000
    assert input_price(prices, at=day_micros("2026-12-01") - 1) == 1_000_000
    assert input_price(prices, at=day_micros("2026-12-01")) == 3_000_000
    assert input_price(prices, at=day_micros("2026-11-20") - 1) == 2_500_000
    row = prices.find("openai", "gpt-4o", NOW)
    assert (row.source, row.dated, row.since) == ("config", "2026-11-20", "2026-11-20")


def test_parts_that_are_left_out_cost_what_they_are_part_of():
    row = book(own(cached_input=Decimal("0.1"))).find("openai", "gpt-4o", NOW)
    assert row.prices == Prices(1_000_000, 2_000_000, 100_000, 1_000_000, 2_000_000, 1_000_000, 2_000_000)
    assert row.batch is None


def test_batch_and_long_prices_and_a_fee_can_be_set():
    parts = PriceParts(input=Decimal(5), output=Decimal(6))
    row = book(own(long_above=1_000, long=parts, batch=parts, request=Decimal("0.01"))).find(
        "openai", "gpt-4o", NOW
    )
    assert (row.prices.long_above, row.prices.long.output) == (1_000, 6_000_000)
    assert row.prices.request == row.prices.long.request == 10**10
    assert row.batch.input == 5_000_000
    assert row.tiers == {"batch": row.batch}


@pytest.mark.parametrize(
    "fields",
    [
        {"input": Decimal(-1)},
        {"input": Decimal("0.0000001")},
        {"input": Decimal("NaN")},
        {"input": Decimal("Infinity")},
        {"input": Decimal(10) ** 30},
        {"per": 10},
        {"since": "yesterday"},
        {"long_above": 5},
        {"long": PriceParts(input=Decimal(1), output=Decimal(1))},
    ],
    ids=str,
)
def test_a_row_that_is_none_is_refused_by_the_model_s_name(fields):
    with pytest.raises(ValueError, match="gpt-4o"):
        book(own(**fields))


@pytest.mark.parametrize("value", ["0.0015", 0.0015, Decimal("0.0015")])
def test_a_price_in_toml_is_exact_whether_quoted_or_not(value):
    row = msgspec.convert({"model": "m", "per": 1000, "input": value, "output": 0}, PriceOverride)
    assert input_price(book(row), model="m") == 1_500_000


def test_a_row_needs_both_prices_and_knows_its_members():
    for fields in ({"input": 1}, {"output": 1}, {"input": 1, "output": 1, "inptu": 2}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"model": "m", **fields}, PriceOverride)


def test_a_margin_changes_the_customer_s_price_and_not_the_provider_s():
    prices = book(margins=[Margin(ppm=200_000)])
    customer = prices.find("openai", "gpt-5.4", NOW)
    provider = prices.find_cost("openai", "gpt-5.4", NOW)
    assert provider == book().find("openai", "gpt-5.4", NOW)
    assert customer.prices.input == provider.prices.input * 6 // 5
    assert customer.prices.long.output == provider.prices.long.output * 6 // 5
    assert customer.batch.input == provider.batch.input * 6 // 5
    assert customer.tiers["priority"].input == provider.tiers["priority"].input * 6 // 5
    assert customer.prices.long_above == provider.prices.long_above


def test_the_most_specific_margin_applies():
    margins = [
        Margin(provider="openai", model="gpt-4o", ppm=1_000_000),
        Margin(model="gpt-4o", ppm=2_000_000),
        Margin(model="gpt-4*", ppm=3_000_000),
        Margin(provider="openai", ppm=4_000_000),
        Margin(ppm=5_000_000),
    ]
    prices = book(own("*"), margins=margins)
    assert input_price(prices, "openai", "gpt-4o") == 2_000_000
    assert input_price(prices, "acme", "gpt-4o") == 3_000_000
    assert input_price(prices, "acme", "gpt-4.1") == 4_000_000
    assert input_price(prices, "openai", "o3") == 5_000_000
    assert input_price(prices, "acme", "o3") == 6_000_000


@given(st.integers(0, 10**12), st.integers(-1_000_000, 10_000_000))
def test_a_margin_is_exact_and_rounded_up_by_less_than_a_pico(pico, ppm):
    row = own(per=1, input=Decimal(pico) / 10**12)
    with_margin = input_price(book(row, margins=[Margin(ppm=ppm)]))
    exact_times_million = pico * (1_000_000 + ppm)
    assert 0 <= with_margin * 1_000_000 - exact_times_million < 1_000_000


def test_a_margin_below_nothing_is_refused():
    with pytest.raises(ValueError, match="negative"):
        book(margins=[Margin(ppm=-1_000_001)])


def test_a_book_of_ones_own_is_read_from_a_file(tmp_path):
    path = tmp_path / "ours.toml"
    path.write_text(
        'source = "contract 7"\ndated = "2026-10-01"\n'
        '[[prices]]\nmodel = "gpt-4o"\ninput = 2.25\noutput = "9"\n'
    )
    row = book(name=str(path)).find("openai", "gpt-4o", NOW)
    assert (row.prices.input, row.prices.output) == (2_250_000, 9_000_000)
    assert (row.source, row.dated) == ("contract 7", "2026-10-01")


@pytest.mark.parametrize(
    ("name", "text"),
    [("nope", None), ("missing.toml", None), ("bad.toml", "= 1"), ("bad.toml", 'source = "x"\nfoo = 1')],
)
def test_a_book_that_is_none_is_refused_by_its_name(tmp_path, name, text):
    path = name if "." not in name else str(tmp_path / name)
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        read_book(path)


def test_any_number_of_unknown_names_takes_bounded_memory():
    prices = book()
    for number in range(10_000):
        prices.find("nobody", f"m{number}", NOW)
    assert len(prices._spans) <= 4_096
    assert input_price(prices) == 2_500_000


def test_names_are_matched_without_regard_to_case():
    assert input_price(book(own("GPT-4O")), model="gpt-4o") == 1_000_000
    assert input_price(book(), model="GPT-4o") == 2_500_000


def test_looking_up_a_price_again_gives_the_very_same_row():
    prices = book()
    assert prices.find("openai", "gpt-4o", NOW) is prices.find("openai", "gpt-4o", NOW + DAY)


@pytest.mark.parametrize("name", ["mine", "zhipu"])
def test_rows_and_margins_of_a_provider_go_by_the_name_that_it_has_here(tmp_path, name):
    file = tmp_path / "headgate.toml"
    file.write_text(
        f"""
[[providers]]
name = "{name}"
base_url = "https://open.bigmodel.cn/api/paas/v4"
api_key = "k"
[[prices.rows]]
provider = "{name}"
model = "glm-4*"
input = 7
output = 9
[[prices.margins]]
provider = "{name}"
ppm = 1_000_000
""",
        encoding="utf-8",
    )
    config = load(ServeOptions(config=str(file), env_file=""), {})
    target = build_routes(config, "instance").candidates("glm-4.5", Book.REAL, NOW)[0]
    assert (target.prices.input, target.costs.input) == (14_000_000, 7_000_000)
    assert price_book(config).find(name, "glm-4.5", NOW).prices.input == 14_000_000
