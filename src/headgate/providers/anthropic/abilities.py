"""What each generation of Claude takes, read off its name.

A name that says no generation is taken for a new one. Facts: Anthropic's pages on thinking, effort,
structured outputs and model migration.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_NEW = re.compile(r"claude-([a-z]+)-(\d+)(?:-(\d{1,2}))?(?![\d])")  # claude-opus-4-7, claude-sonnet-5
_OLD = re.compile(r"claude-(\d)(?:[.-](\d))?(?:-([a-z]+))?(?![\d])")  # claude-3-5-sonnet, claude-2.1
_NEWEST = (99, 0)


class Abilities(NamedTuple):
    """What one model takes."""

    sampling: bool  # temperature, top_p and top_k
    one_of_sampling: bool  # temperature or top_p, not both
    budget: bool  # thinking by `budget_tokens`
    adaptive: bool  # thinking by itself, with an effort
    always_thinks: bool
    efforts: tuple[str, ...]  # the words of `output_config.effort`
    schema: bool  # `output_config.format`


@lru_cache(maxsize=1024)
def abilities_of(model: str) -> Abilities:
    """Return what a model takes."""
    family, version = _generation(model.lower())
    adaptive = version >= (4, 6)
    efforts: tuple[str, ...] = ()
    if version >= (4, 7):
        efforts = ("low", "medium", "high", "xhigh", "max")
    elif adaptive:
        efforts = ("low", "medium", "high", "max")
    return Abilities(
        sampling=version < (4, 7),
        one_of_sampling=version >= (4, 1),
        budget=(3, 7) <= version < (4, 6),
        adaptive=adaptive,
        always_thinks=family in {"fable", "mythos"},
        efforts=efforts,
        schema=version >= (4, 5),
    )


def _generation(model: str) -> tuple[str, tuple[int, int]]:
    found = _NEW.search(model)
    if found is not None:
        return found[1], (int(found[2]), int(found[3] or 0))
    found = _OLD.search(model)
    if found is not None:
        return found[3] or "", (int(found[1]), int(found[2] or 0))
    return "", (1, 0) if "claude-v1" in model or "claude-instant" in model else _NEWEST
