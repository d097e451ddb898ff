"""What a check found, bounded: a book that is wrong everywhere must not fill the terminal."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

MOST_OF_A_KIND = 20


class Finding(NamedTuple):
    """One thing that is wrong."""

    kind: str
    detail: str


class Findings:
    """The findings of one check."""

    __slots__ = ("_counts", "_kept")

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._kept: list[Finding] = []

    def add(self, kind: str, detail: str) -> None:
        """Keep a finding; beyond the bound of its kind only count it."""
        self._counts[kind] += 1
        if self._counts[kind] <= MOST_OF_A_KIND:
            self._kept.append(Finding(kind, detail))

    def all(self) -> list[Finding]:
        """Return what was kept, and a line for each kind that had more."""
        more = [
            Finding(kind, f"and {count - MOST_OF_A_KIND} more")
            for kind, count in self._counts.items()
            if count > MOST_OF_A_KIND
        ]
        return self._kept + more


def name_of(call: bytes) -> str:
    """Return a call's name as people know it."""
    return "req_" + call.hex()
