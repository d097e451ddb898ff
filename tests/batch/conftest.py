"""These tests run on the loop that a server has: uvloop where it exists."""

from __future__ import annotations

import sys
from typing import Any

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> Any:
    return "asyncio", {"use_uvloop": sys.platform != "win32"}
