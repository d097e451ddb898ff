from __future__ import annotations

from pathlib import Path

import overload
import pytest
from load import Load, Outcome
from tests.bench.test_bench_run import command

pytestmark = [pytest.mark.compiler]
TINY = overload.Plan(1.0, 0.4, 0.4, 0.4, 1.0)  # in less a busy machine may send nothing


def test_a_right_gateway_passes_with_a_figure_for_each_goal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert overload.measure(command(tmp_path), TINY, tmp_path) == []
    said = capsys.readouterr().out
    assert all(
        word in said
        for word in (
            " 2x ",
            " 5x ",
            "10x ",
            "goodput",
            "health: p99",
            "the first 1 s at 2x",
            "health: longest",
            "interactive",
            "0.95 C",
            "1 % of load: admitted",
            "booked once",
        )
    )


class Ramped(overload.Trial):
    """A gateway whose latency doubles above 3,000 requests/s, on a machine that is busy for some windows."""

    def __init__(self, busy: range) -> None:
        self.plan = TINY
        self._busy = busy
        self._windows = 0

    def run(self, what: str, load: Load, key: str = "") -> Outcome:
        """Say what a window would have shown."""
        self._windows += 1
        slow = load.rate > 3000 or self._windows in self._busy
        p99 = 9000.0 if slow else 1000.0
        return Outcome({"rps": 4500.0, "lat_us": {"p99": p99}}, "")


@pytest.mark.parametrize("busy_from", [3, 6, 12])
def test_a_moment_of_other_work_makes_no_lower_capacity(busy_from: int) -> None:
    capacity, quiet_ms = Ramped(range(busy_from, busy_from + 5)).capacity()
    assert 2800 <= capacity <= 3000
    assert quiet_ms == 1.0


def test_books_that_lack_a_call_fail_it(tmp_path: Path) -> None:
    wrong = overload.measure(command(tmp_path, "--lose 1"), TINY, tmp_path)
    assert any("calls" in text for text in wrong)
