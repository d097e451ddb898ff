"""A process that keeps books until it is killed: `python -m tests.stores.crash_child DATA SEED SPEC`.

It says on standard output what it has done, one line per record, each in one write after the journal
took the record, so a line proves the record and a record may lack its line.
"""

from __future__ import annotations

import os
import random
import sys
import time
from contextlib import closing
from pathlib import Path

from tests.stores.records import COSTS, PRICES, cost_of

from headgate.failpoints import failpoints_of
from headgate.ports import CallIds, Mark, Open, Settle, SystemClock
from headgate.stores.journal import JournalSettings, SlotJournal
from headgate.stores.sql.database import connect
from headgate.stores.sql.drain import Drain
from headgate.stores.sql.recovery import recover
from headgate.values import Book, Usage

OPEN_AT_ONCE = 30


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Serving:
    def __init__(self, journal: SlotJournal, seed: int) -> None:
        self.journal = journal
        self.random = random.Random(seed)
        self.clock = SystemClock()
        self.ids = CallIds(self.clock)
        self.calls: list[tuple[Open, int]] = []

    def step(self) -> None:
        act = self.random.random()
        if not self.calls or (len(self.calls) < OPEN_AT_ONCE and act < 0.4):
            self.begin()
        elif act < 0.7:
            self.go_on()
        else:
            self.end()

    def begin(self) -> None:
        hold = cost_of(300, 3000)
        record = Open(
            self.ids.next(), 0, self.clock.wall(), Book(self.random.random() < 0.3), 1, 1, 1, 0, "chat",
            "gpt-4o-mini", "openai", "gpt-4o-mini", PRICES, COSTS, hold, 500, streamed=True,
        )  # fmt: skip
        self.journal.open(record)
        say("O", record.call.hex(), hold)
        self.calls.append((record, 0))

    def go_on(self) -> None:
        index = self.random.randrange(len(self.calls))
        record, made = self.calls[index]
        made = min(made + self.random.randrange(1, 257), 3000)
        self.journal.mark(Mark(record.call, 0, self.clock.wall(), Usage(300, made)))
        say("M", record.call.hex(), made)
        self.calls[index] = (record, made)

    def end(self) -> None:
        record, made = self.calls.pop(self.random.randrange(len(self.calls)))
        charge = cost_of(300, made)
        end = Settle(
            record.call, 0, self.clock.wall(), 200, Usage(300, made), charge, 0, (cost_of(300, made, COSTS),)
        )
        self.journal.settle(end)
        say("S", record.call.hex(), charge)


def main() -> None:
    data, seed, spec = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with closing(connect(data)) as sql:
        recover(data, sql, SystemClock())
    failpoints = failpoints_of(spec)
    settings = JournalSettings(segment_bytes=16 << 10, group_s=0.002)
    journal = SlotJournal(data / "journal" / "slot-0", SystemClock(), settings, failpoints)
    drain = Drain(journal, lambda: connect(data), failpoints, lambda said: say("T", said), every_s=0.005)
    drain.start()
    serving = Serving(journal, seed)
    say("R")
    while True:
        for _ in range(20):
            serving.step()
        time.sleep(0.001)


if __name__ == "__main__":
    main()
