"""Commands run in this process, in a folder of their own, with no provider in sight."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.memory import in_memory

from headgate.cli.root import cli

Run = Callable[..., Result]


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with in_memory(tmp_path_factory) as made:
        yield made


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_BASE_URL")) or name.startswith(("HEADGATE_", "OLLAMA_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def invoke(*args: str, **options: Any) -> Result:
        return runner.invoke(cli, args, prog_name="headgate", **options)

    return invoke


@pytest.fixture
def say(run: Run) -> Callable[..., Any]:
    """Run a command that must succeed and return its JSON."""

    def read(*args: str, **options: Any) -> Any:
        result = run(*args, "--json", **options)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return read
