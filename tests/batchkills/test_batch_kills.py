"""The short form of `make batch-kills`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.batchkills.__main__ import Kills, due, plan

pytestmark = pytest.mark.anyio


async def test_each_line_has_one_output_and_one_charge_whatever_is_killed(tmp_path: Path) -> None:
    kills = Kills(tmp_path, lines=150, kills=6, seed=3)
    assert await kills.run() == 0, kills.wrong


async def test_what_is_due_is_half_the_price_of_each_line() -> None:
    assert plan(0) == (20, 10)
    assert due(1) == (20 * 3_000 + 10 * 6_000) // 2
