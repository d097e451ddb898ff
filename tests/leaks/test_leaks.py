"""`make leaks` in short; and each thing that it looks for is found."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from random import Random

import pytest
from tests.leaks.rounds import PARTS, Look, Outcome, play


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_calls_that_are_left_leave_nothing(tmp_path: Path) -> None:
    outcome = asyncio.run(play(tmp_path, 1_000, Random(5), at_once=20))
    # So few only warm it up; what memory does then is for the long form to say.
    assert [line for line in outcome.wrong if not line.startswith("memory")] == []
    assert outcome.looks[-1].calls == 1_000
    assert outcome.looks[-1].memory_mb > 20


def looked(grown_mb: float = 0.0, files: int = 0, threads: int = 0) -> Outcome:
    """What 100,000 calls would look like that left so much, after a warm start."""
    outcome = Outcome(100_000)
    for part in range(1, PARTS + 1):
        share = part / PARTS
        look = Look(
            10_000 * part, 40 + grown_mb * share, 30 + round(files * share), 9 + round(threads * share)
        )
        outcome.looks.append(look)
    outcome.judge()
    return outcome


def test_what_stays_as_it_is_passes() -> None:
    assert looked(0.9, files=1).wrong == []
    assert looked(0.9).report().endswith("; 0 wrong")


@pytest.mark.parametrize("grown", [{"grown_mb": 8.0}, {"files": 20}, {"threads": 20}])
def test_what_grows_is_found(grown: dict[str, int]) -> None:
    found = looked(**grown)
    assert len(found.wrong) == 1
    assert found.report().endswith("; 1 wrong")


@pytest.mark.parametrize(
    ("sent", "rows", "hung_up", "findings"),
    [(91, 90, 90, []), (90, 101, 101, []), (90, 90, 89, []), (90, 90, 90, ["pot"])],
    ids=["not booked", "booked twice", "not as left", "wrong books"],
)
def test_wrong_books_are_found(sent: int, rows: int, hung_up: int, findings: list[object]) -> None:
    outcome = Outcome(100)
    outcome.reconcile(sent, rows, hung_up, findings)
    assert len(outcome.wrong) == 1


def test_right_books_pass() -> None:
    outcome = Outcome(100)
    outcome.reconcile(88, 90, 90, [])
    assert outcome.wrong == []
