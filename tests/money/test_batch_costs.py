"""What a batch costs us: as ever where we run it, the provider's batch price where that does."""

from __future__ import annotations

from headgate.money.batchterms import BATCH, PASSED, BatchSettings, cost_in_tier, in_tier
from headgate.money.prices import PriceRow
from headgate.values import Prices

STANDARD, HALF, FAST = Prices(input=1_000), Prices(input=400), Prices(input=2_000)
ROW = PriceRow(
    provider="p", model="m", prices=STANDARD, tiers={"batch": HALF, "fast": FAST}, source="", dated=""
)


def test_a_provider_that_runs_it_takes_its_batch_price():
    assert cost_in_tier(ROW, PASSED) == HALF
    assert cost_in_tier(ROW, BATCH) == STANDARD
    assert cost_in_tier(ROW, "fast") == FAST
    assert cost_in_tier(ROW, "") == cost_in_tier(ROW, "flex") == STANDARD
    assert cost_in_tier(None, PASSED) is None


def test_a_cost_that_nobody_knows_is_not_told_too_low():
    plain = PriceRow(provider="p", model="m", prices=STANDARD, source="", dated="")
    assert cost_in_tier(plain, PASSED) == STANDARD


def test_who_runs_it_is_all_one_for_the_customer():
    terms = BatchSettings()
    assert in_tier(ROW, PASSED, terms, "m") == in_tier(ROW, BATCH, terms, "m") == HALF
