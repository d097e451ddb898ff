"""What must be, and what was."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Row:
    """One line of the table."""

    what: str
    goal: str
    seen: str = ""
    wrong: list[str] = field(default_factory=list)

    def expect(self, true: object, said: str) -> None:
        if not true:
            self.wrong.append(said)

    def report(self) -> str:
        """Say it in one line, and what is wrong below."""
        head = f"{self.what:31} {self.goal:58} {self.seen}"
        most = self.wrong[:8]
        return "\n".join([head + ("  WRONG" if self.wrong else ""), *(f"    {line}" for line in most)])


def tell(row: Row) -> Row:
    """Print a line when it is known."""
    print(row.report(), flush=True)
    return row


def heading() -> str:
    return f"{'':31} {'goal':58} seen"


def wrong(rows: Iterable[Row]) -> list[str]:
    """Return all that is wrong."""
    return [f"{row.what}: {line}" for row in rows for line in row.wrong]


def spread(took: Iterable[float]) -> str:
    """Return the median and the longest of some times."""
    ordered = sorted(took)
    return f"{ordered[len(ordered) // 2]:.2f} s, at most {ordered[-1]:.2f} s" if ordered else "none"
