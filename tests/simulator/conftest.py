"""One simulator for all its tests."""

from __future__ import annotations

import pytest
from tests.simulator.sim_upstream import Upstream

from headgate.money.tokens import Tokenizers


@pytest.fixture(scope="session")
def tokenizers() -> Tokenizers:
    return Tokenizers()


@pytest.fixture
def upstream(tokenizers: Tokenizers) -> Upstream:
    return Upstream(tokenizers)
