from __future__ import annotations

import sys
from pathlib import Path

import idle
import pytest
from tests.bench.test_bench_run import command

pytestmark = [pytest.mark.compiler]
HEADGATE = Path(sys.executable).with_name("headgate")


def test_a_few_hundred_idle_streams_take_little_memory_and_are_booked_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = idle.Plan(300, opened_per_s=200, watched_s=0.5, calls_s=0.5)
    assert idle.measure(HEADGATE, plan, tmp_path) == []
    said = capsys.readouterr().out
    [memory] = [line for line in said.splitlines() if "memory of a stream" in line]
    assert memory.endswith("met"), said


def test_streams_that_were_not_opened_fail_it(tmp_path: Path) -> None:
    plan = idle.Plan(10, opened_per_s=10_000, watched_s=0.1, calls_s=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(idle, "OPEN_CALLS", "headgate_no_such_gauge")
        patch.setattr(idle, "wait_for", lambda ready, *_: 0.0 if ready() else None)
        wrong = idle.measure(command(tmp_path), plan, tmp_path)
    assert any("only 0 of 10" in text for text in wrong)


def test_a_machine_that_allows_few_files_holds_fewer_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle.resource, "getrlimit", lambda _: (1024, 4096))
    assert idle.possible(10_000)[0] == 1848
    assert "4096 open files" in idle.possible(10_000)[1]
    assert idle.possible(1000) == (1000, "")
