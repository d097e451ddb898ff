from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import books
import machine
import pytest
import report
import sampling
from lanes import Figure, figure


@pytest.mark.parametrize(
    "usage",
    [
        {"total": {"calls": 7}, "rows": [{"calls": 3}]},
        {"calls": 7},
        {"rows": [{"model": "a", "calls": 3}, {"model": "b", "calls": 4}]},
        [{"calls": 3}, {"calls": 4}],
    ],
)
def test_calls_are_found_as_a_total_or_summed_over_rows(usage: dict[str, object]) -> None:
    assert books.total(usage, "calls") == 7


def test_a_total_that_is_not_stated_is_not_zero() -> None:
    assert books.total({"rows": [{"model": "a"}]}, "calls") is None


def test_what_was_sent_fixes_the_tokens_that_must_be_booked() -> None:
    assert books.Sent(json=10, streams=2).expected == {
        "calls": 12,
        "input_tokens": 228,
        "output_tokens": 560,
    }


@pytest.mark.parametrize(("value", "verdict"), [(100.0, "stretch"), (150.0, "reached"), (150.1, "MISSED")])
def test_a_goal_is_judged_by_its_bounds(value: float, verdict: str) -> None:
    goal = report.Goal("call", "json.headgate.cpu_us", 150, "us", stretch=110)
    assert goal.judge({goal.figure: figure([value])}) == verdict


def test_a_goal_without_a_figure_is_not_reached() -> None:
    assert {goal.judge({}) for goal in report.GOALS} == {"not measured"}


def test_refusing_must_be_cheaper_not_as_dear() -> None:
    goal = next(goal for goal in report.GOALS if goal.strict)
    assert goal.judge({goal.figure: figure([1.0])}) == "MISSED"


def test_the_median_and_the_quartiles_are_reported() -> None:
    assert figure([5.0, 1.0, 3.0, 2.0, 4.0]) == Figure(3.0, 2.0, 4.0, 5)


def test_the_time_of_a_whole_process_tree_is_counted() -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass\n"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\n{burn}input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while machine.tree_cpu_s(process.pid) < 0.38 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert 0.38 <= machine.tree_cpu_s(process.pid) < 2.0
        assert machine.tree_rss_mb(process.pid) > 3
    finally:
        process.communicate(b"\n")


def test_a_window_blames_others_only_for_what_is_not_ours() -> None:
    layout = machine.Layout(gateway=1, load=0)
    cores = {0: machine.Core(10.0, 0.0), 1: machine.Core(20.0, 0.0)}
    later = {0: machine.Core(10.9, 0.0), 1: machine.Core(20.6, 0.02)}
    a = machine.Reading(0.0, {"direct": 1.0, "headgate": 5.0}, cores, own=0.0, generator=0.0)
    b = machine.Reading(1.0, {"direct": 1.4, "headgate": 5.5}, later, own=0.1, generator=0.4)
    window = machine.between(a, b, layout, frozenset({"direct"}))
    assert window.others == pytest.approx(0.1)
    assert window.steal == pytest.approx(0.02)
    assert not window.quiet


def test_pinning_ends_with_its_block() -> None:
    before = os.sched_getaffinity(0)
    with machine.pinned(min(before)):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_stacks_are_summed_by_function() -> None:
    lines = sampling.summary("main (a.py:1);serve (b.py:9) 3\nmain (a.py:2) 1\n")
    assert lines[0] == "4 samples"
    assert lines[2].split() == ["75.0", "75.0", "serve", "(b.py)"]


def test_locked_books_refuse_a_writer_until_they_are_released(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database")
    path = tmp_path / "books.db"
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as database:
        database.execute("CREATE TABLE t (x)")
        held = books.locked(books.find_databases(tmp_path))
        with held, pytest.raises(sqlite3.OperationalError, match="locked"):
            database.execute("INSERT INTO t VALUES (1)")
        database.execute("INSERT INTO t VALUES (1)")
