from __future__ import annotations

from pathlib import Path

import pytest
from tests.bench.test_bench_idle import HEADGATE

import batch

pytestmark = [pytest.mark.compiler]


def test_each_line_of_a_batch_is_answered_and_booked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch.measure(HEADGATE, 150, tmp_path) == []
    said = capsys.readouterr().out
    assert all(word in said for word in ("150 lines in", "of a direct call", "memory at most", "of a core"))


def test_a_line_without_an_answer_and_a_call_too_many_fail_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = batch.lines

    def one_wrong(count: int) -> bytes:
        return full(count).replace(b'"max_tokens": 100', b'"max_tokens": -1', 1)

    monkeypatch.setattr(batch, "lines", one_wrong)
    wrong = batch.measure(HEADGATE, 20, tmp_path)
    assert any("the batch is completed" in text for text in wrong)
    assert "19 of 20 lines have an answer" in wrong
    assert any("usage says" in text for text in wrong)
