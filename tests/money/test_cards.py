"""What people want to know of models, and what changed in their prices."""

import re
from collections import Counter
from datetime import date
from decimal import Decimal

import pytest

from headgate.money.cards import ABILITIES, MODALITIES, Card, cards
from headgate.money.catalogue import Catalogue
from headgate.money.drift import OwnBook, ShippedBook, drift
from headgate.money.ownprices import PriceOverride, read_book
from headgate.money.pricedata import DATA, PriceData, day_micros
from headgate.providers.registry import known_hosts
from headgate.values import Host

KNOWN = cards()
ALL = [card for maker in KNOWN.makers.values() for at in maker.at[:1] for card in KNOWN.made_by(at)]
OPENAI = "https://api.openai.com/v1"


def test_the_makers_that_people_ask_for_are_there_with_sixty_models_and_more():
    count = Counter(card.by for card in ALL)
    asked = (
        "openai",
        "anthropic",
        "google",
        "deepseek",
        "qwen",
        "moonshotai",
        "zai",
        "doubao",
        "mistral",
        "x-ai",
    )
    assert all(count[maker] >= 5 for maker in asked)
    chat = [card for card in ALL if card.gives == "text" and not card.ended(day_micros("2026-11-26"))]
    assert len(chat) >= 150
    kinds = {kind for card in ALL for kind in card.gives.split()}
    assert kinds >= {"text", "image", "audio", "video", "embedding"}


def test_every_card_uses_words_that_are_known_and_says_where_its_days_are_from():
    for card in ALL:
        assert set(card.takes.split()) <= set(MODALITIES)
        assert set(card.gives.split()) <= set(MODALITIES)
        assert set(card.can.split()) <= set(ABILITIES)
        for day in filter(None, (card.deprecated, card.shutdown)):
            assert date.fromisoformat(day).isoformat() == day
            assert KNOWN.sources[card.source].url.startswith("https://")
        assert not (card.deprecated and card.shutdown) or card.deprecated < card.shutdown
        assert card.shutdown or not card.instead


def test_no_model_has_two_cards():
    assert not [name for name, times in Counter(card.name.lower() for card in ALL).items() if times > 1]


@pytest.mark.parametrize("name", ["gpt-4o", "gpt-4o-2024-11-20", "ft:gpt-4o:acme::x", "openai/gpt-4o"])
def test_a_snapshot_has_the_card_of_its_family(name):
    card = KNOWN.find("openai", name)
    assert card is not None
    assert (card.name, card.shutdown, card.instead) == ("gpt-4o", "2027-01-14", "gpt-6-luna")


def test_days_hold_only_at_the_maker_itself():
    assert KNOWN.find("mine", "gpt-4o", OPENAI).shutdown == "2027-01-14"
    for provider, url in (("azure", ""), ("openai", "http://127.0.0.1:9/v1"), ("openrouter", "")):
        card = KNOWN.find(provider, "gpt-4o", url)
        assert (card.shutdown, card.deprecated, card.instead) == ("", "", "")
        assert card.takes == "text image file"
    assert KNOWN.find("openai", "no-such-model") is None
    # its own cloud keeps a model longer than its studio
    assert KNOWN.find("vertex", "gemini-2.5-pro").shutdown == ""
    assert KNOWN.find("gemini", "gemini-2.5-pro").shutdown == "2026-12-01"


def test_the_end_is_told_in_the_headers_that_the_rfcs_have():
    card = Card("m", "x", "text", "text", deprecated="2026-10-14", shutdown="2027-01-14", instead="n")
    assert card.notice() == (
        ("deprecation", "@1791936000"),
        ("sunset", "Thu, 14 Jan 2027 00:00:00 GMT"),
        ("x-headgate-use-instead", "n"),
    )
    assert Card("m", "x", "text", "text").notice() == ()
    assert not card.ended(day_micros("2027-01-13"))
    assert card.ended(day_micros("2027-01-14"))


def test_what_serving_knows_of_a_model_has_its_end():
    facts = Catalogue.load(PriceData.load())
    shutdown, notice = facts.end(Host(name="openai", base_url=OPENAI), "gpt-4o")
    assert shutdown == "2027-01-14"
    assert notice[1][0] == "sunset"
    assert facts.end(Host(name="openai", base_url="http://127.0.0.1:1/v1"), "gpt-4o") == ("", ())


def test_a_provider_without_prices_is_known_by_its_cards():
    names = Catalogue.load(PriceData.load()).names("dashscope")
    assert {"qwen-plus", "qwen3.8-max"} <= set(names)
    assert not [name for name in names if re.search(r"tts|image|wan", name)]


# ── drift ───────────────────────────────────────────────────────────────────────────────────────

BOOK = b"""{"source":"s","dated":"2026-01-01","aliases":{},"hosts":{},"providers":{"maker":
{"name":"Maker","source":"","fallback":[],"models":[
["plain",0,true,["plain"],[["",0,0,[100,200,100,100,200,100,200]],["2026-05-01",0,0,[110,200,100,110,200,110,200]]]],
["hours",0,true,["hours"],[["",0,0,[100,200,100,100,200,100,200]],["",3600,7200,[50,90,50,50,90,50,90]]]],
["tiers",0,true,["tiers"],[["",0,0,[100,200,100,100,200,100,200],{"batch":[50,100,50,50,100,50,100]}]]],
["long",0,true,["long"],[["",0,0,[100,200,100,100,200,100,200,0,1000,[150,300,150,150,300,150,300]]]]]
]}}}"""


def changed(old, new):
    return [
        (row.model, row.kind, [(change.part, change.old, change.new) for change in row.changes])
        for row in drift(old, new)
    ]


def test_a_dated_row_drifts_between_two_days():
    data = PriceData(BOOK)
    may = ShippedBook(data, "2026-05-01")
    assert changed(ShippedBook(data, "2026-04-30"), may) == [
        ("plain", "changed", [("input", 100, 110), ("cached_input", None, 100)])
    ]
    assert changed(may, ShippedBook(data, "2026-11-01")) == []


def test_hours_tiers_and_long_inputs_are_parts_of_a_row():
    data = PriceData(BOOK)
    others = PriceData(
        BOOK.replace(b"[50,90,", b"[60,90,").replace(b"[50,100,", b"[55,100,").replace(b"[150,", b"[151,")
    )
    day = "2026-01-01"
    found = {model: parts for model, _, parts in changed(ShippedBook(data, day), ShippedBook(others, day))}
    assert ("input 01:00-02:00", 50, 60) in found["hours"]
    assert ("batch input", 50, 55) in found["tiers"]
    assert ("above 1000 input", 150, 151) in found["long"]
    assert set(found) == {"hours", "tiers", "long"}


def test_rows_come_and_go():
    old, new = PriceData(BOOK), PriceData(BOOK.replace(b'"plain"', b'"other"'))
    rows = [
        (model, kind)
        for model, kind, _ in changed(ShippedBook(old, "2026-01-01"), ShippedBook(new, "2026-01-01"))
    ]
    assert rows == [("other", "added"), ("plain", "removed")]


def own_row(model, usd, **more):
    return PriceOverride(model=model, input=Decimal(usd), output=Decimal("0.0002"), **more)


def test_a_book_of_ones_own_is_compared_in_what_it_names():
    data = PriceData(BOOK)
    own = [own_row("plain", "0.0001")]
    shipped = ShippedBook(data, "2026-01-01", ("maker",))
    assert changed(OwnBook(own, "2026-01-01"), shipped) == []
    dearer = [*own, own_row("plain", "0.0003", since="2026-02-01")]
    assert changed(OwnBook(dearer, "2026-01-31"), shipped) == []
    assert changed(OwnBook(dearer, "2026-02-01"), shipped)[0][2][0] == ("input", 300, 100)
    gone = [own_row("never", "1", provider="maker")]
    assert [row[:2] for row in changed(OwnBook(gone, "2026-01-01"), shipped)] == [("never", "removed")]


def test_the_shipped_book_compares_with_itself_and_with_the_guides():
    data = PriceData.load()
    today = ShippedBook(data, "2026-11-26")
    assert list(drift(today, today)) == []
    guide = {row.model for row in drift(OwnBook(read_book("guide-2025"), "2026-11-26"), today)}
    assert "gpt-3.5-turbo" in guide
    assert (DATA / "cards.json").stat().st_size < 100_000


def test_what_is_shown_to_people_for_a_first_try_is_not_shut_down_soon() -> None:
    soon = day_micros("2026-12-31")  # a little after the month of the shipped prices
    for name, row in known_hosts().items():
        card = KNOWN.find(name, row.example, row.base_url) if row.example else None
        assert card is None or not card.ended(soon), f"{name}: {row.example}"
