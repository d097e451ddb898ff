"""`make replicas` in short."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.replicas import rounds
from tests.replicas.rounds import play


@pytest.mark.postgres
def test_three_replicas_are_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "CHANGED_S", 5.0)  # this machine may be busy; `make replicas` measures
    outcomes = asyncio.run(play(tmp_path, rounds=2, calls=60, changes=2))
    assert [outcome.wrong for outcome in outcomes] == [[]] * len(outcomes)
    figures = {name: value for outcome in outcomes for name, value in outcome.figures.items()}
    assert figures["granted"] > 1
    assert figures["calls"] > 20
