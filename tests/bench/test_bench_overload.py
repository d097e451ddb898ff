from __future__ import annotations

from pathlib import Path

import overload
import pytest
import servers
from load import Generator, Load, Outcome, together_us
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
        p99 = (9000.0 if slow else 1000.0) + 1000 * load.wait_ms
        return Outcome({"rps": 4500.0, "lat_us": {"p99": p99}}, "")


@pytest.mark.parametrize("busy_from", [3, 6, 12])
def test_a_moment_of_other_work_makes_no_lower_capacity(busy_from: int) -> None:
    ramped = Ramped(range(busy_from, busy_from + 5))
    capacity, quiet_ms = ramped.capacity()
    assert 2800 <= capacity <= 3000
    assert (quiet_ms, ramped.unloaded_ms) == (1.0, 21.0)


def test_books_that_lack_a_call_fail_it(tmp_path: Path) -> None:
    wrong = overload.measure(command(tmp_path, "--lose 1"), TINY, tmp_path)
    assert any("calls" in text for text in wrong)


def test_the_slowest_of_a_small_load_count_among_those_of_the_large_one() -> None:
    large = Outcome({"svc_us": {"steps": [[1000.0, 900], [2000.0, 80]]}}, "")
    small = Outcome({"svc_us": {"steps": [[1000.0, 5], [9000.0, 15]]}}, "")
    assert together_us((large, small), "svc", 0.50) == 1000.0
    assert together_us((large, small), "svc", 0.98) == 2000.0
    assert together_us((large, small), "svc", 0.99) == 9000.0


def test_the_generator_counts_each_served_call_in_one_step(tmp_path: Path) -> None:
    mock, binary = servers.build_tools()
    server = servers.start_mock(mock, tmp_path, 0)
    try:
        outcome = Generator(binary, 0).run(Load(0.5, 4, 200.0, refusals=True), server.port, "sk-1")
    finally:
        server.kill()
    steps = outcome.raw["svc_us"]["steps"]
    assert sum(count for _, count in steps) == outcome.raw["ok"] > 0
    assert [up_to for up_to, _ in steps] == sorted(up_to for up_to, _ in steps)
    assert together_us((outcome,), "svc", 0.5) == pytest.approx(outcome.us("svc", "p50"), rel=0.02)
    assert together_us((outcome,), "svc", 0.99) == pytest.approx(outcome.us("svc", "p99"), rel=0.05)
