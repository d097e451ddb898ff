"""The short form of `make redis-loss`: three replicas under load, and Redis is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.redis.losses import play

pytestmark = pytest.mark.redis


@pytest.mark.parametrize("fault", ["killed", "frozen", "flushed"])
def test_no_call_fails_without_redis(fault: str, tmp_path: Path) -> None:
    outcome = play(tmp_path, fault, 3.0)
    assert not outcome.wrong, outcome.report()
