from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import elsewhere
import pytest
from tests.bench.test_bench_run import command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from session import Sample

pytestmark = [pytest.mark.compiler]
TINY = elsewhere.Plan(2, 0.3, 1)


def _round(alone_us: float, fleet_us: float, *, quiet: bool = True) -> Mapping[str, Sample]:
    window = SimpleNamespace(quiet=quiet)
    return {
        name: cast("Sample", SimpleNamespace(cpu_us=cpu, window=window))
        for name, cpu in ((elsewhere.ALONE, alone_us), (elsewhere.FLEET, fleet_us))
    }


def test_two_right_gateways_are_compared_round_by_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert elsewhere.measure(command(tmp_path), TINY, tmp_path, {"redis": "redis://127.0.0.1:1"}) == []
    said = capsys.readouterr().out
    assert said.count("round  ") == 2
    assert "round by round" in said
    assert said.count("as many booked, the check passes") == 2
    assert 'redis = "redis://127.0.0.1:1"' in (tmp_path / elsewhere.FLEET / "headgate.toml").read_text()
    assert "redis" not in (tmp_path / elsewhere.ALONE / "headgate.toml").read_text()


def test_books_that_lack_a_call_fail_it(tmp_path: Path) -> None:
    wrong = elsewhere.measure(command(tmp_path, "--lose 1"), TINY, tmp_path, {})
    assert {text.partition(":")[0] for text in wrong} == {elsewhere.ALONE, elsewhere.FLEET}


@pytest.mark.parametrize(("fleet_us", "verdict"), [(109.0, "met"), (112.0, "near"), (113.0, "MISSED")])
def test_the_goal_is_judged_by_the_median_of_the_rounds(fleet_us: float, verdict: str) -> None:
    rounds = [_round(100.0, fleet_us), _round(200.0, 2 * fleet_us), _round(100.0, 300.0, quiet=False)]
    said = elsewhere.lines(rounds)
    assert said[2].endswith(verdict)
    assert said[3].startswith("noise: 2 of 6")
