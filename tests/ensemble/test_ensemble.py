"""`make fleet` in short; and what it looks for is found."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.ensemble.limits import Size
from tests.ensemble.rounds import Terms, play
from tests.ensemble.table import wrong

pytestmark = [pytest.mark.postgres, pytest.mark.redis, pytest.mark.rabbitmq, pytest.mark.timeout(300)]
LOSSES = (("postgresql", "frozen"), ("redis", "frozen"), ("rabbitmq", "frozen"))
SHORT = Terms(
    seconds=1.5,
    losses=LOSSES,
    rounds=1,
    calls=40,
    changes=1,
    pour=Size(3.0, per_s=6.0),
    lines=20,
    leave_s=0.5,
    callers=1,
    tight=60,
    changed_s=5.0,  # this machine may be busy; `make fleet` measures
)


def test_all_of_it_together_loses_nothing(tmp_path: Path) -> None:
    rows = asyncio.run(play(tmp_path, SHORT))
    assert wrong(rows) == []
    assert len(rows) == 1 + 1 + 4 + len(LOSSES) + 1 + 1 + 6  # of one loss there are two
