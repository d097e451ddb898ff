"""Targets by what a call is expected to cost at each. Pure; chance is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.values import NanoUSD, Target


def cheapest_first(
    targets: Sequence[Target], costs: Sequence[NanoUSD | None], draw: float
) -> tuple[Target, ...]:
    """Return targets by what they cost; of those that cost least any one comes first.

    Args:
        targets: in the order that decides between equals which come later.
        costs: expected of each; None, which comes last: it has no price.
        draw: chance from [0, 1).
    """
    ranked = sorted(zip(costs, targets, strict=True), key=lambda pair: (pair[0] is None, pair[0] or 0))
    found = [target for _, target in ranked]
    equal = sum(cost == ranked[0][0] for cost, _ in ranked)
    found.insert(0, found.pop(int(draw * equal)))
    return tuple(found)
