"""Kill a process that moves credit, at any moment, and compare the books with what it said it did."""

import random
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

from tests.ops.credit_child import USD, amount_of
from tests.ops.fakes import HandClock, opened_desk

from headgate.ports import SystemClock
from headgate.stores.sql.check import check
from headgate.stores.sql.database import connect

KILLS = 10


def live_and_die(data: Path, first: int, seconds: float) -> list[list[str]]:
    command = [sys.executable, "-m", "tests.ops.credit_child", str(data), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "R\n"
        threading.Timer(seconds, process.kill).start()
        said = [
            line.split() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")
        ]
    assert process.returncode == -9
    return said


def test_killed_at_any_moment_no_top_up_is_lost_or_doubled(tmp_path: Path) -> None:
    with opened_desk(tmp_path, HandClock()):
        pass
    chance, said, first = random.Random(3), [], 0
    for _ in range(KILLS):
        said += live_and_die(tmp_path, first, chance.uniform(0.02, 0.25))
        assert check(tmp_path, SystemClock().wall()).findings == []
        # The next life tries the last one again, as whoever waited in vain for an answer does.
        first = max([int(number) for what, number in said if what == "T"], default=0)
    with closing(connect(tmp_path)) as sql:
        rows = sql.execute("SELECT kind, reference, amount - debt FROM postings").fetchall()
    booked = {(kind, reference): amount for kind, reference, amount in rows}
    assert len(booked) == len(rows)
    names = {"T": ("topup", "manual:ref-"), "B": ("refund", "manual:back-")}
    told = {(names[what][0], names[what][1] + number): int(number) for what, number in said}
    for which, number in told.items():
        assert booked.pop(which) == (amount_of(number) if which[0] == "topup" else -USD)
    assert len(booked) <= KILLS, "at most one thing per life was done and not said"
    assert len(said) > KILLS
