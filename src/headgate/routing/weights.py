"""Which of several targets comes first, by their weights. Pure; chance is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.values import Target


def drawn(targets: tuple[Target, ...], draw: float) -> tuple[Target, ...]:
    """Return the targets with one of the first that have a weight in front, the others in their order.

    Args:
        targets: those with a weight stand before those without one.
        draw: chance from [0, 1).
    """
    total, count = 0, 0
    for target in targets:
        if not target.weight:
            break
        total += target.weight
        count += 1
    left = draw * total
    for index in range(count):
        left -= targets[index].weight
        if left < 0:
            return (targets[index], *targets[:index], *targets[index + 1 :])
    return targets
