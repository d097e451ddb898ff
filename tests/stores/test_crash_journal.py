"""Kill a process that keeps books, at any moment, and compare the books with what it said it did."""

import random
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.stores.books import figures, make
from tests.stores.crash_child import OPEN_AT_ONCE
from tests.stores.records import cost_of

from headgate.money.rules import CHECKPOINT_TOKENS
from headgate.ports import SystemClock
from headgate.stores.sql.check import check
from headgate.stores.sql.database import connect
from headgate.stores.sql.recovery import recover

KILLS = 20
ESTIMATED_AND_RECOVERED = 9


@dataclass
class Said:
    """What the process said over all its lives."""

    holds: dict[str, int] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    charges: dict[str, int] = field(default_factory=dict)
    lives: int = 0

    def hear(self, text: str) -> None:
        for line in text.splitlines(keepends=True):
            if not line.endswith("\n"):
                break  # killed in the middle of a word
            what, *rest = line.split()
            if what in "OMS":
                {"O": self.holds, "M": self.marks, "S": self.charges}[what][rest[0]] = int(rest[1])
            assert what != "T", line
        self.lives += 1

    @property
    def open(self) -> set[str]:
        return self.holds.keys() - self.charges.keys()


def live_and_die(data: Path, seed: int, spec: str = "") -> str:
    """Run the process; kill it at a random moment, or let a failpoint do it."""
    with start(data, seed, spec) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "R\n"
        if not spec:
            kill_after(process, random.Random(seed).uniform(0.0, 0.12))
        text = process.stdout.read()
    assert process.returncode == -9
    return text


def start(data: Path, seed: int, spec: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.stores.crash_child", str(data), str(seed), spec]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_after(process: "subprocess.Popen[str]", seconds: float) -> None:
    threading.Timer(seconds, process.kill).start()


def compare(data: Path, said: Said) -> None:
    """Compare the books after a recovery with everything that was ever said."""
    assert check(data, SystemClock().wall()).findings == []
    rows = {row[0].hex(): row[1:] for row in figures(data, "SELECT call, charge, hold, flags FROM calls")}
    assert said.charges.keys() <= rows.keys(), "a settlement was lost"
    for call, charge in said.charges.items():
        assert rows[call][0] == charge, "a settlement was changed"
        assert not rows[call][2] & ESTIMATED_AND_RECOVERED, "a settlement was estimated"
    assert said.open <= rows.keys(), "an open call was not recovered"
    for call in said.open:
        charge, hold, flags = rows[call]
        if flags & ESTIMATED_AND_RECOVERED:
            made = said.marks.get(call)
            # Its last words may be missing: then the journal knows more than was said.
            allowed = {hold} if made is None else set()
            allowed |= {
                min(cost_of(300, marked + CHECKPOINT_TOKENS), hold)
                for marked in range(made or 1, (made or 0) + 257)
            }
            assert charge in allowed
    unheard = rows.keys() - said.holds.keys()
    assert len(unheard) <= said.lives, "at most one record is written and not yet said"


def recovered(data: Path) -> int:
    with closing(connect(data)) as sql:
        return recover(data, sql, SystemClock()).estimated


def test_killed_at_any_moment_nothing_is_lost_nor_doubled(tmp_path: Path) -> None:
    data, said = make(tmp_path), Said()
    at_kill = []
    for seed in range(KILLS):
        said.hear(live_and_die(data, seed))
        if seed % 2:  # else the next life recovers for itself
            at_kill.append(recovered(data))
            compare(data, said)
    recovered(data)
    compare(data, said)
    print(f"{said.lives} kills, {len(said.charges)} settlements; open when killed: {at_kill}")
    assert max(at_kill) <= OPEN_AT_ONCE + 1
    assert sum(count >= 5 for count in at_kill) > len(at_kill) / 2


@pytest.mark.parametrize("place", ["rotate", "drain-before-commit", "drain-after-commit"])
def test_killed_at_a_failpoint_nothing_is_lost_nor_doubled(tmp_path: Path, place: str) -> None:
    data, said = make(tmp_path), Said()
    for passage in (1, 4):
        said.hear(live_and_die(data, passage, f"{place}=kill@{passage}"))
    recovered(data)
    compare(data, said)


def test_killed_while_it_recovers_it_recovers_again(tmp_path: Path) -> None:
    data, said = make(tmp_path), Said()
    said.hear(live_and_die(data, 1))
    for delay in (0.25, 0.3, 0.35):
        with start(data, 9, "") as process:
            assert process.stdout is not None
            kill_after(process, delay)
            said.hear(process.stdout.read().removeprefix("R\n"))
    recovered(data)
    compare(data, said)
