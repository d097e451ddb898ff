"""Regular expressions of callers' schemas, only those that are matched in time that is bounded.

Python's matcher goes back and tries again, so an expression that somebody else wrote can keep a process busy
for years. What can do that is refused when the schema is read: a repeated group with repetitions or choices
inside, references back, looking around. What is left is at worst a power of the text's length, and that is
bounded by `MOST_STEPS`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

MOST_STEPS = 10_000_000
_LONGEST = 1_000
_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")
_ODD_ESCAPE = re.compile(r"\\[1-9kpPAZzGbB]")
_OPENING = re.compile(r"\((?:\?:)?")


class Pattern(NamedTuple):
    """An expression, and how its worst time grows: by this power of the text's length."""

    expression: re.Pattern[str]
    power: int

    def matches(self, text: str) -> bool | None:
        """Say whether a text has a match anywhere; None: it is too long to say."""
        if len(text) ** self.power > MOST_STEPS:
            return None
        return self.expression.search(text) is not None


class _Scan:
    """A walk over the source: what is unsafe, how many repetitions without an end there are."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.at = 0
        self.endless = 0
        self.out: list[str] = []
        self._groups: list[bool] = []  # of each open group: has it a repetition or a choice inside?
        self._closed: bool | None = None  # of the group that has just ended

    def run(self) -> None:
        """Walk to the end.

        Raises:
            ValueError: what of it is unsafe.
        """
        while self.at < len(self.source):
            start = self.at
            self._step(self.source[start])
            self.out.append(self.source[start : self.at])
            if self.out[-1] == "$":
                self.out[-1] = r"\Z"  # Python's `$` also matches before a last line break

    def _step(self, char: str) -> None:
        closed, self._closed = self._closed, None
        match char:
            case "\\":
                if _ODD_ESCAPE.match(self.source, self.at) and self.source[self.at + 1] not in "bB":
                    raise ValueError(f"{self.source[self.at : self.at + 2]} is not read here")
                self.at += 2
            case "[":
                self._skip_class()
            case "(":
                self._open()
            case ")":
                self._closed = bool(self._groups) and self._groups.pop()
                self._mark(self._closed)
                self.at += 1
            case "|":
                self._mark(found=True)
                self.at += 1
            case "*" | "+" | "?" | "{":
                self._repeat(char, inner=closed)
            case _:
                self.at += 1

    def _mark(self, found: bool) -> None:
        if found and self._groups:
            self._groups[-1] = True

    def _open(self) -> None:
        opening = _OPENING.match(self.source, self.at)
        assert opening is not None
        self.at = opening.end()
        if self.source.startswith("?", self.at):
            raise ValueError("(? other than (?: is not read here")
        self._groups.append(False)

    def _skip_class(self) -> None:
        self.at += 1
        first = True
        while self.at < len(self.source):
            char = self.source[self.at]
            self.at += 2 if char == "\\" else 1
            if char == "]" and not first:
                return
            first = first and char == "^"
        raise ValueError("a class [...] has no end")

    def _repeat(self, char: str, inner: bool | None) -> None:
        count = _COUNT.match(self.source, self.at) if char == "{" else None
        if char == "{" and count is None:
            self.at += 1  # a brace that counts nothing is a letter
            return
        self.at = count.end() if count is not None else self.at + 1
        low, high = _span(char, count)
        if high > 1 and inner:
            raise ValueError("a repeated group has a repetition or a choice inside")
        if high > _LONGEST:
            self.endless += 1
        if high != low:
            self._mark(found=True)
        if self.source.startswith(("?", "+"), self.at):
            self.at += 1  # lazy or greedy: the same texts


def _span(char: str, count: re.Match[str] | None) -> tuple[int, int]:
    """Return how often at least and at most a repetition repeats."""
    if count is None:
        return {"*": (0, _LONGEST + 1), "+": (1, _LONGEST + 1), "?": (0, 1)}[char]
    low = int(count[1] or 0)
    if not count[2]:
        return low, low
    return low, int(count[3]) if count[3] else _LONGEST + 1


@lru_cache(512)
def safe_pattern(source: str) -> Pattern:
    """Return an expression that is matched in bounded time.

    Raises:
        ValueError: it is none, or may take forever.
    """
    if len(source) > _LONGEST:
        raise ValueError(f"it is longer than {_LONGEST} characters")
    scan = _Scan(source)
    scan.run()
    try:
        expression = re.compile("".join(scan.out))
    except (re.error, OverflowError, RecursionError) as fault:
        raise ValueError(f"{fault}") from fault
    anchored = source.startswith("^")
    return Pattern(expression, scan.endless + (not anchored))
