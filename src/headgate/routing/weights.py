"""Which of several targets comes first, by their weights. Pure; chance is given."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.values import Target

_group = attrgetter("group")


def drawn(targets: tuple[Target, ...], draw: float) -> tuple[Target, ...]:
    """Return the targets with one of each group in front of it, drawn by weight; groups keep their order.

    Args:
        targets: those of a group stand side by side, and have weights or none.
        draw: chance from [0, 1).
    """
    found: list[Target] = []
    for _, members in groupby(targets, _group):
        group = list(members)
        left = draw * sum(target.weight for target in group)
        for index, target in enumerate(group):
            left -= target.weight
            if left < 0:
                group.insert(0, group.pop(index))
                break
        found += group
    return tuple(found)
