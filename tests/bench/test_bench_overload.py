from __future__ import annotations

from pathlib import Path

import overload
import pytest
from tests.bench.test_bench_run import command

pytestmark = [pytest.mark.compiler]
TINY = overload.Plan(0.5, 0.4, 0.4, 0.4)


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
            "interactive",
            "0.95 C",
            "1 % of load: admitted",
            "booked once",
        )
    )


def test_books_that_lack_a_call_fail_it(tmp_path: Path) -> None:
    wrong = overload.measure(command(tmp_path, "--lose 1"), TINY, tmp_path)
    assert any("calls" in text for text in wrong)
