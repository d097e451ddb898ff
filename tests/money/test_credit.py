"""Which grants cover a call, and how its charge is split over them."""

from typing import NamedTuple

import pytest
from hypothesis import given, strategies as st

from headgate.money.credit import Need, cover, in_tokens, left, rank, taken, tokens_taken
from headgate.money.periods import FOREVER
from headgate.money.rules import cut_short, entries
from headgate.ports import Mark, Open, Settle, Source
from headgate.values import Book, Prices, Usage

NOW = 1_000
MODEL = "gpt-4o"
PRICES = Prices(input=1_000, output=2_000)


class Grant(NamedTuple):
    grant: int
    free: int
    until: int = FOREVER
    model: str = ""
    kind: str = "gift"

    @property
    def pot(self) -> int:
        return self.grant + 100


def ordered(grants: list[Grant]) -> list[Grant]:
    return sorted(grants, key=lambda each: rank(each.kind, each.model, each.until % FOREVER, each.grant))


grants = st.lists(
    st.builds(
        Grant,
        st.integers(1, 10_000),
        st.integers(-5, 1_000),
        st.sampled_from([NOW - 1, NOW, NOW + 1, NOW + 2, FOREVER]),
        st.sampled_from(["", "", "", MODEL, "gpt-*", "claude"]),
    ),
    unique_by=lambda each: each.grant,
    max_size=8,
).map(ordered)
needs = st.builds(Need, st.just(MODEL), st.integers(0, 3_000), st.integers(1, 1_200))


@given(grants, needs)
def test_what_covers_a_call_sums_to_it_and_never_asks_a_grant_for_more_than_it_has(
    offers: list[Grant], need: Need
) -> None:
    sources = cover(offers, need, NOW)
    by_id = {offer.grant: offer for offer in offers}
    in_money = sum(offer.free for offer in offers if not offer.model and offer.until > NOW and offer.free > 0)
    whole = [
        offer
        for offer in offers
        if offer.model in {MODEL, "gpt-*"} and offer.until > NOW and offer.free >= need.tokens
    ]
    assert left(offers, NOW) == in_money
    if sources is None:
        assert need.amount > in_money
        assert not whole
        return
    assert sum(source.amount for source in sources) == need.amount
    for source in sources:
        offer = by_id[source.grant]
        assert source.pot == offer.pot
        assert offer.until > NOW
        assert 0 < (source.tokens if offer.model else source.amount) <= offer.free
    if need.amount and whole:
        assert [source.grant for source in sources] == [whole[0].grant]
        assert in_tokens(sources)
    elif sources:
        assert not in_tokens(sources)
        # First to expire first: what comes later is touched only when everything before it is empty.
        used = {source.grant: source.amount for source in sources}
        last = max(index for index, offer in enumerate(offers) if offer.grant in used)
        for offer in offers[:last]:
            if not offer.model and offer.until > NOW and offer.free > 0:
                assert used[offer.grant] == offer.free


@given(grants, needs, st.integers(0, 3_000))
def test_a_charge_is_split_exactly_and_in_the_order_of_the_hold(
    offers: list[Grant], need: Need, charge: int
) -> None:
    sources = cover(offers, need, NOW) or ()
    if in_tokens(sources):
        used = min(charge, need.tokens)
        parts = taken(sources, 0, used)
        assert [part.amount for part in parts] == [used] * bool(used)
        return
    charge = min(charge, sum(source.amount for source in sources))
    parts = taken(sources, charge, 0)
    assert sum(part.amount for part in parts) == charge
    assert [part.n for part in parts] == list(range(len(parts)))
    for part in parts[:-1]:
        assert part.amount == part.source.amount
    assert all(0 < part.amount <= part.source.amount for part in parts)


def test_grants_are_spent_first_to_expire_first_and_the_balance_last() -> None:
    balance = Grant(1, 100, kind="balance")
    never = Grant(4, 10)
    soon = Grant(3, 10, NOW + 5)
    later = Grant(2, 10, NOW + 9)
    assert ordered([balance, never, later, soon]) == [soon, later, never, balance]
    sources = cover([soon, later, never, balance], Need(MODEL, 45, 1), NOW)
    assert sources is not None
    assert [(source.grant, source.amount) for source in sources] == [(3, 10), (2, 10), (4, 10), (1, 15)]


def test_a_grant_in_tokens_covers_the_whole_call_or_nothing_of_it() -> None:
    tokens, money = Grant(1, 99, model=MODEL), Grant(2, 50)
    assert cover([tokens, money], Need(MODEL, 40, 99), NOW) == (Source(101, 1, 40, 99),)
    assert cover([tokens, money], Need(MODEL, 40, 100), NOW) == (Source(102, 2, 40),)
    assert cover([tokens, money], Need("gpt-4o-mini", 40, 10), NOW) == (Source(102, 2, 40),)
    assert cover([tokens], Need("gpt-4o-mini", 40, 10), NOW) is None
    assert cover([], Need(MODEL, 0, 10), NOW) == ()  # costs nothing


def test_more_than_the_sources_hold_is_a_bug_and_never_booked() -> None:
    with pytest.raises(ValueError, match="1 more"):
        taken((Source(1, 1, 5), Source(2, 2, 5)), 11, 0)
    with pytest.raises(ValueError, match="do not fit"):
        taken((Source(1, 1, 5, 10),), 0, 11)
    with pytest.raises(ValueError, match="do not fit"):
        taken((Source(1, 1, 5, 10),), 1, 0)


# ── what is booked ───────────────────────────────────────────────────────────────────────────────


def opened(*sources: Source, hold: int = 100) -> Open:
    return Open(
        b"c", 0, NOW, Book.REAL, 7, 1, 1, 0, "chat", MODEL, "openai", MODEL, PRICES, PRICES, hold, 20,
        sources=sources,
    )  # fmt: skip


def settle(charge: int, promoted: int = 0, tokens: int = 0) -> Settle:
    return Settle(b"c", 0, NOW, 200, Usage(), charge, 0, (), promoted=promoted, tokens=tokens)


def test_a_settlement_debits_each_grant_that_paid_for_it() -> None:
    sources = (Source(1, 11, 60), Source(2, 12, 40))
    assert entries([opened(*sources)], settle(70)) == [
        (1, 0, 0, "grant:11", "revenue", 60),
        (1, 0, 1, "grant:12", "revenue", 10),
    ]
    assert entries([opened(*sources)], settle(60)) == [(1, 0, 0, "grant:11", "revenue", 60)]
    assert entries([opened(*sources)], settle(0)) == []
    assert entries([opened()], settle(70)) == [(1, 0, 0, "credit:7", "revenue", 70)]


def test_a_grant_in_tokens_pays_with_tokens_and_the_house_with_money() -> None:
    held = opened(Source(1, 11, 100, 30))
    assert entries([held], settle(0, promoted=25, tokens=20)) == [
        (1, 0, 0, "promotion", "revenue", 25),
        (4, 0, 0, "tokens:11", "tokens:used", 20),
    ]
    assert tokens_taken(held.sources, Usage(7, 8)) == 15
    assert tokens_taken(held.sources, Usage(70, 8)) == 30


def test_the_house_pays_a_prepaid_call_that_left_no_mark_when_its_process_died() -> None:
    unmarked = cut_short([opened(Source(1, 11, 100))], None, NOW, absorb_unmarked=False)
    assert (unmarked.charge, unmarked.absorbed, unmarked.promoted, unmarked.tokens) == (0, 100, 0, 0)
    mark = Mark(b"c", 0, NOW, Usage(3, 4))
    marked = cut_short([opened(Source(1, 11, 100))], mark, NOW, absorb_unmarked=False)
    assert (marked.charge, marked.absorbed, marked.tokens) == (100, 0, 0)
    covered = cut_short([opened(Source(1, 11, 100, 30))], mark, NOW, absorb_unmarked=False)
    assert (covered.charge, covered.promoted, covered.tokens) == (0, 100, 30)
