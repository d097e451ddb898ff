"""Every test here runs on asyncio's own loop and on uvloop: their transports differ where it hurts."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(
    scope="session",
    params=[("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "uvloop"],
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param
