"""`make reload` in short; and what it looks for is found."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from tests.reload.rounds import Outcome, play


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_no_call_fails_or_goes_astray_while_settings_change(tmp_path: Path) -> None:
    outcome = asyncio.run(play(tmp_path, 4, 2))
    assert outcome.wrong == []
    assert (outcome.reloads, outcome.refused) == (4, 2)
    assert outcome.answers > 100


def test_an_answer_by_settings_that_are_not_in_force_is_found() -> None:
    outcome = Outcome()
    outcome.answered(200, 3, 3, 4)
    outcome.answered(200, 4, 3, 4)
    assert outcome.wrong == []
    outcome.answered(200, 2, 3, 4)
    outcome.answered(200, 5, 3, 4)
    outcome.answered(502, -1, 3, 4)
    assert len(outcome.wrong) == 3
