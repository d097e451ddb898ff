"""`make upgrade` in short."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.upgrade.rounds import play

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(240)]


def test_several_that_start_at_once_on_an_older_schema_change_nothing_and_lose_nothing(
    tmp_path: Path,
) -> None:
    assert asyncio.run(play(tmp_path, 4_000)).wrong == []
