"""A small classifier of texts by word lists, English and Chinese: free, in this process, and no model.

It knows words and not what they mean: a novel, a news report and a question for help are flagged by the same
words as a threat, and what is said in other words passes. Its answers carry its own name.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.values import LEXICAL

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME: Final = LEXICAL
# OpenAI's order.
CATEGORIES: Final = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent",
    "self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence",
    "violence/graphic",
)  # fmt: skip
_LISTS: Final = Path(__file__).parent.parent / "data" / "lexicon.toml"
_FLAGGED: Final = 0.5
_FLOOR: Final = 0.0001  # OpenAI's scores are never 0
_PIECE: Final = 100_000  # characters that are searched at once
_OVERLAP: Final = 200
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_WORD = re.compile(r"\w+")
_BETWEEN_HAN: Final = r"[\W_]{0,3}"


class _Term(NamedTuple):
    """A term: what a hit says of a category, and what a text must hold for one."""

    category: str
    weight: float
    needs: frozenset[str]  # whole words, or Chinese characters
    begins: tuple[str, ...]  # of words
    pattern: str


def scores(text: str) -> dict[str, float]:
    """Return how much a text looks like each category, between 0 and 1."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    found: dict[tuple[str, float], set[str]] = {}
    for start in range(0, max(len(plain), 1), _PIECE):
        piece = plain[max(0, start - _OVERLAP) : start + _PIECE]
        there = {*_WORD.findall(piece), *_HAN.findall(piece)}
        likely = (term for term in _terms() if term.needs <= there)
        for term in likely:
            hit = re.search(term.pattern, piece) if all(begin in piece for begin in term.begins) else None
            if hit is not None:
                found.setdefault((term.category, term.weight), set()).add(hit.group(0))
    doubts = dict.fromkeys(CATEGORIES, 1.0)
    for (category, weight), hits in found.items():
        doubts[category] *= (1 - weight) ** min(len(hits), 4)
    # Whoever threatens or instructs also does what the category above says.
    for category in CATEGORIES:
        above = category.partition("/")[0]
        doubts[above] = min(doubts[above], doubts[category])
    return {category: round(max(1 - doubt, _FLOOR), 6) for category, doubt in doubts.items()}


def flagged(found: Mapping[str, float]) -> dict[str, bool]:
    """Return which categories the scores flag."""
    return {category: score >= _FLAGGED for category, score in found.items()}


@lru_cache(maxsize=1)
def _terms() -> tuple[_Term, ...]:
    """Read the lists, on first use."""
    lists = tomllib.loads(_LISTS.read_text(encoding="utf-8"))
    return tuple(
        _term(category, int(weight) / 1000, term)
        for category, rows in lists.items()
        for weight, terms in rows.items()
        for term in terms
    )


def _term(category: str, weight: float, term: str) -> _Term:
    if _HAN.search(term):
        return _Term(category, weight, frozenset(_HAN.findall(term)), (), _chinese(term))
    begins = tuple(word.removesuffix("*") for word in term.split() if word.endswith("*"))
    whole = " ".join(word for word in term.split() if not word.endswith("*"))
    pattern = rf"(?<!\w){_english(term)}(?!\w)"
    return _Term(category, weight, frozenset(_WORD.findall(whole)), begins, pattern)


def _english(term: str) -> str:
    words = term.split()
    made = [
        r"(?:[\w'-]+\W+){0,4}?" if word == "~" else re.escape(word).replace(r"\*", r"\w*") for word in words
    ]
    if words[-1] == "~":  # a word must follow
        made[-1] = r"\w+"
    return "".join(
        part if part.endswith("}?") or number == len(made) - 1 else part + r"[\W_]+"
        for number, part in enumerate(made)
    )


def _chinese(term: str) -> str:
    return _BETWEEN_HAN.join(r".{1,8}?" if char == "~" else re.escape(char) for char in term)
