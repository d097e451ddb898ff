"""Compare the books with what clients and the provider know: nothing lost, nothing doubled, no difference."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.callers import Seen
from tests.crash.server import cost
from tests.stores.books import anywhere

from headgate.stores.sql.database import Place

CHECKPOINT = 256  # tokens between two marks
ON_THE_WAY = 192  # tokens that the provider wrote and the server had not read when it died


@dataclass
class Noted:
    """What the provider noted of one call."""

    given: int = 0
    made: int = 0
    written: int = 0
    begun: int = 0
    finished: bool = False


def read_notes(path: Path) -> dict[str, Noted]:
    """Read the provider's record."""
    notes: dict[str, Noted] = {}
    for line in path.read_text().splitlines():
        what, call, *numbers = line.split()
        note = notes.setdefault(call, Noted())
        if what == "B":
            note.given, note.made = map(int, numbers)
            note.begun += 1
        elif what == "T":
            note.written = int(numbers[0])
        else:
            note.finished = True
    return notes


@dataclass
class Verdict:
    """What is wrong, and what was counted on the way."""

    wrong: list[str] = field(default_factory=list)
    exact: int = 0
    estimated: int = 0
    by_mark: int = 0
    by_hold: int = 0


class Comparison:
    """One comparison of the three records."""

    def __init__(self, rows: list[dict[str, Any]], calls: list[Seen], notes: dict[str, Noted]) -> None:
        self.rows = {row["request_id"]: row for row in rows}
        self.count = Counter(row["request_id"] for row in rows)
        self.seen = {seen.request_id: seen for seen in calls if seen.request_id}
        self.notes = notes
        self.verdict = Verdict()

    def run(self, data: Place) -> Verdict:
        say = self.verdict.wrong.append
        for call, count in self.count.items():
            if count > 1:
                say(f"{call}: settled {count} times")
        for call in self.notes.keys() - self.rows.keys():
            say(f"{call}: the provider served it and the books do not have it")
        for call, seen in self.seen.items():
            if seen.finished and call not in self.rows:
                say(f"{call}: its answer arrived whole and the books do not have it")
        holds = _recovered(data)
        for call, row in self.rows.items():
            if row["estimated"]:
                self._estimated(call, row, holds)
            else:
                self._exact(call, row)
        return self.verdict

    def _exact(self, call: str, row: dict[str, Any]) -> None:
        """A settled call is equal to the provider's record, to the last nano-USD."""
        self.verdict.exact += 1
        note = self.notes.get(call)
        if note is None:
            if row["cost_nano_usd"] or row["status"] == 200:
                self.verdict.wrong.append(f"{call}: booked, and the provider never saw it")
            return
        due = (note.given, note.made, cost(note.given, note.made))
        booked = (row["input_tokens"], row["output_tokens"], row["cost_nano_usd"])
        if booked != due or not note.finished:
            self.verdict.wrong.append(f"{call}: booked {booked}, the provider's record says {due}")

    def _estimated(self, call: str, row: dict[str, Any], holds: dict[str, tuple[int, int]]) -> None:
        """An estimate is of a call that no client saw the end of, and inside the table of recovery."""
        verdict, seen = self.verdict, self.seen.get(call)
        verdict.estimated += 1
        if seen is not None and seen.finished:
            verdict.wrong.append(f"{call}: its answer arrived whole and it is estimated")
        if call not in holds:
            verdict.wrong.append(f"{call}: estimated without a crash")
            return
        hold, output = holds[call]
        charge = row["cost_nano_usd"]
        due = min(hold, cost(row["input_tokens"], output))
        written = self.notes[call].written if call in self.notes else 0
        mark = output - CHECKPOINT
        if charge != due:
            verdict.wrong.append(f"{call}: {output} tokens, charged {charge} of a hold of {hold}, due {due}")
        elif charge == hold:
            verdict.by_hold += 1
        elif 0 <= written - mark <= CHECKPOINT + ON_THE_WAY:
            verdict.by_mark += 1
        else:
            verdict.wrong.append(f"{call}: marked {mark} of {written} tokens, charged {charge}")


def _recovered(data: Place) -> dict[str, tuple[int, int]]:
    """Return hold and booked output of each call that a recovery settled."""
    with closing(anywhere(data)) as sql:
        rows = sql.execute("SELECT call, hold, output FROM calls WHERE flags & 8 <> 0").fetchall()
    return {"req_" + call.hex(): (hold, output) for call, hold, output in rows}
