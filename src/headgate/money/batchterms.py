"""On what terms batches run: what their calls cost, how much may be enqueued, how many run at once. Pure."""

from __future__ import annotations

from decimal import Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from headgate.money.prices import PAR, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from headgate.values import Prices

    class Tiered(Protocol):
        """What a row of the price book says of service tiers."""

        @property
        def prices(self) -> Prices:
            """Return the standard prices."""
            ...

        @property
        def tiers(self) -> Mapping[str, Prices]:
            """Return those of other tiers."""
            ...


BATCH: Final = "batch"  # the service tier of a batch's calls, in the price book
PASSED: Final = "batch at its provider"  # the same, where the provider's own batch API runs them


class BatchModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What differs for the batches of some models. The first row that names a model holds."""

    model: str  # as callers name it, or a pattern: `*` stands for any characters
    price_percent: Decimal | None = None  # of the standard price, before what the price book says of batches
    enqueued_tokens: int | None = None  # instead of all three limits below; 0: no limit
    concurrency: int = 0  # lines at once in all workers; 0: the general one, or as the provider's API has it


class BatchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Batches: what they cost and how they run."""

    run: Literal["auto", "here", "workers"] = "auto"  # who runs lines; auto: workers where there is a queue
    price_percent: Decimal = Decimal(50)  # of the standard price, where the price book has no batch price
    concurrency: int = 32  # lines of a model at once in all workers; fewer while a provider limits us
    silent_s: float = 60  # of a worker that says nothing: then its part of `concurrency` is the others'
    tries: int = 10  # of a line that a provider fails; waiting for its limits counts for none
    enqueued_tokens_per_key: int = 0  # input tokens of a model in batches that are not done; 0: no limit
    enqueued_tokens_per_project: int = 0  # the same of all keys of a project
    enqueued_tokens: int = 0  # the same of everybody
    models: tuple[BatchModel, ...] = ()  # what differs for some models

    def wrong(self) -> str:
        """Return what is wrong; empty where nothing is."""
        percents = [self.price_percent, *(each.price_percent or 0 for each in self.models)]
        if not all(0 <= percent <= 1000 for percent in percents):
            return "price_percent is 0 to 1000"
        if not (1 <= self.concurrency <= 10_000 and 1 <= self.tries <= 1_000):
            return "concurrency is 1 to 10000, tries 1 to 1000"
        if not all(0 <= each.concurrency <= 10_000 for each in self.models):
            return "concurrency of a model is 0 to 10000"
        if not 2 <= self.silent_s <= 3_600:
            return (
                "silent_s is 2 to 3600: workers say twice a second that they live, by clocks that may differ"
            )
        limits = [self.enqueued_tokens_per_key, self.enqueued_tokens_per_project, self.enqueued_tokens]
        if min(*limits, *(each.enqueued_tokens or 0 for each in self.models), 0) < 0:
            return "limits of enqueued tokens begin at 0, which is none"
        return ""

    def of(self, model: str) -> BatchModel:
        """Return what differs for a model."""
        return next((row for row in self.models if fnmatchcase(model, row.model)), BatchModel(model=model))

    def limits(self, model: str) -> tuple[int, int, int]:
        """Return how many tokens of a model may be enqueued by a key, a project, everybody; 0: no limit."""
        own = self.of(model).enqueued_tokens
        if own is not None:
            return own, own, own
        return self.enqueued_tokens_per_key, self.enqueued_tokens_per_project, self.enqueued_tokens


def cost_in_tier(row: Tiered | None, tier: str) -> Prices | None:
    """Return what a provider charges us; a batch that we run asks as ever, and costs the standard's.

    One that the provider runs costs its batch price, and where the price book has none the standard's: a cost
    is never told too low.
    """
    if row is None or tier == BATCH:
        return None if row is None else row.prices
    return row.tiers.get(BATCH if tier == PASSED else tier, row.prices)


def in_tier(row: Tiered | None, tier: str, terms: BatchSettings, model: str) -> Prices | None:
    """Return what a row says of a service tier; one without its own price costs the standard's.

    A batch costs what the settings say of its model, else the row's own batch price, else a share of the
    standard price.
    """
    if row is None:
        return None
    if tier not in {BATCH, PASSED}:
        return row.tiers.get(tier, row.prices)
    own = terms.of(model).price_percent
    if own is None and BATCH in row.tiers:
        return row.tiers[BATCH]
    percent = terms.price_percent if own is None else own
    return scaled(row.prices, int(percent * PAR / 100))
