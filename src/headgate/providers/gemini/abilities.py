"""What each generation of Gemini takes, read off its name.

A name that says no generation (`gemini-flash-latest`) is taken for a new one. Facts: Google's pages on
thinking, on structured output with tools, and on thought signatures; its own OpenAI-compatible endpoint
translates `reasoning_effort` into the same budgets and levels.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_GENERATION = re.compile(r"gemini-(?:[a-z]+-)?(\d+)(?:\.(\d+))?")  # gemini-2.5-pro, gemini-pro-1.5
_OLDEST = frozenset({"gemini-pro", "gemini-pro-vision", "gemini-ultra"})  # before they had numbers
_BUDGETS = {"minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576, "xhigh": 24_576, "max": 24_576}
_BUDGET_OF_PRO = 128  # the least that 2.5 Pro takes: it always thinks
_LEVELS = ("minimal", "low", "medium", "high")


class Abilities(NamedTuple):
    """What one model takes."""

    budgets: Mapping[str, int]  # `thinkingBudget` by effort; empty: none
    levels: Mapping[str, str]  # `thinkingLevel` by effort; empty: none
    schema_with_tools: bool  # JSON as the answer where there are functions, too
    signed: bool  # refuses a function call of its own that comes back without its signature


@lru_cache(maxsize=1024)
def abilities_of(model: str) -> Abilities:
    """Return what a model takes."""
    name = model.lower().rpartition("/")[2]
    version = _version(name)
    pro = "-pro" in name
    if version < (2, 5):
        return Abilities({}, {}, schema_with_tools=False, signed=False)
    if version < (3, 0):
        return Abilities(_BUDGETS | {"none": _BUDGET_OF_PRO if pro else 0}, {}, False, False)
    known: tuple[str, ...] = _LEVELS
    if pro:
        known = ("low", "high") if version < (3, 1) else ("low", "medium", "high")
    levels = {effort: effort if effort in known else "high" for effort in (*_LEVELS, "xhigh", "max")}
    levels |= dict.fromkeys({"none", "minimal"}, known[0])
    return Abilities({}, levels, schema_with_tools=True, signed=True)


def _version(name: str) -> tuple[int, int]:
    found = _GENERATION.search(name)
    if found is not None:
        return int(found[1]), int(found[2] or 0)
    return (1, 0) if name in _OLDEST or not name.startswith("gemini") else (99, 0)
