from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import run
import servers
from session import Plan

pytestmark = [pytest.mark.compiler]
TINY = Plan(1, 0.05, 1, 1, 20, 50, 2, 0.05, quick=True)
FAKE = Path(__file__).with_name("fake_gateway.py")


@pytest.fixture(autouse=True)
def tiny_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "QUICK", TINY)


def command(folder: Path, extra: str = "") -> Path:
    script = folder / "headgate"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@" {extra}\n')
    script.chmod(0o755)
    return script


def bench(gateway: Path, result: Path, *lanes: str) -> tuple[int, dict[str, object]]:
    argv = ["--quick", "--headgate", str(gateway), "--json", str(result)]
    for lane in lanes:
        argv += ["--lane", lane]
    return run.main(argv), json.loads(result.read_text())


def test_a_right_gateway_passes_and_every_lane_gives_its_figures(tmp_path: Path) -> None:
    status, document = bench(command(tmp_path), tmp_path / "out.json")
    assert document["failures"] == []
    assert status == 0
    figures = document["figures"]
    assert isinstance(figures, dict)
    wanted = (
        "json.headgate.cpu_us", "refused.served_ratio", "fallback.headgate.added_cpu_us", "large.headgate.cpu_us",
        "burst.headgate.event_us", "paced.headgate.added_ttft_p50_us", "open100.direct.p50_us",
        "open1000.headgate.added_p99_us", "streams.headgate.rss_mb", "streams.headgate.late",
        "start.headgate.seconds", "start.headgate.idle_mb", "start.headgate.version_seconds",
        "journal.headgate.start_seconds", "journal.headgate.drain_us",
    )  # fmt: skip
    assert [name for name in wanted if name not in figures] == []
    assert figures["json.headgate.cpu_us"]["value"] > 0
    assert figures["journal.headgate.drained_records"]["value"] == TINY.journal_calls // 2
    assert figures["journal.headgate.start_records"]["value"] == TINY.journal_calls
    assert document["worst_loop_stall_s"] == 0.002


def test_a_call_missing_in_the_books_fails_the_run(tmp_path: Path) -> None:
    status, document = bench(command(tmp_path, "--lose 1"), tmp_path / "out.json", "burst")
    assert status == 1
    assert "(-1)" in str(document["failures"])


def test_a_wrong_answer_fails_the_run(tmp_path: Path) -> None:
    status, document = bench(command(tmp_path, "--spoil 5"), tmp_path / "out.json", "json")
    assert status == 1
    assert "bad 1" in str(document["failures"])


def test_a_gateway_that_does_not_start_fails_the_run_and_leaves_the_others(tmp_path: Path) -> None:
    status, document = bench(tmp_path / "absent", tmp_path / "out.json", "json")
    assert status == 1
    assert "does not exist" in str(document["failures"])
    figures = document["figures"]
    assert isinstance(figures, dict)
    assert "json.direct.cpu_us" in figures


@pytest.mark.nginx
def test_nginx_is_measured_where_it_is_installed(tmp_path: Path) -> None:
    _, document = bench(tmp_path / "absent", tmp_path / "out.json", "json", "burst")
    figures = document["figures"]
    assert isinstance(figures, dict)
    assert {"json.nginx.cpu_us", "burst.nginx.event_us"} <= set(figures)


def test_the_tools_are_built_and_nothing_else_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "BUILD", tmp_path / "build")
    bench(command(tmp_path), tmp_path / "out.json", "refused")
    assert sorted(path.name for path in (tmp_path / "build").iterdir()) == ["lg", "mock"]
