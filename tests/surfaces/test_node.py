"""The official client in JavaScript and the Vercel AI SDK, against a running gateway."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.surfaces.nodejs import ROOT, SOURCE, install_modules

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]  # the first test installs the modules

EXAMPLES = sorted((ROOT / "examples" / "node").glob("*.mjs"))
SUITES = sorted(SOURCE.glob("*.mjs"))


@pytest.fixture
def node(simulated, tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program in a folder from which Node finds the modules, as a client of the gateway."""
    (tmp_path / "node_modules").symlink_to(install_modules() / "node_modules", target_is_directory=True)

    def run(program: Path, *options: str) -> subprocess.CompletedProcess[str]:
        shutil.copy(program, tmp_path)
        return subprocess.run(
            ["node", *options, program.name],
            cwd=tmp_path,
            env=simulated.client_environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_there_are_examples_and_suites():
    assert {path.stem for path in EXAMPLES} >= {"ai-sdk", "chat", "embeddings"}
    assert {path.stem for path in SUITES} == {"aisdk", "openai"}


@pytest.mark.parametrize("program", EXAMPLES, ids=lambda path: path.name)
def test_the_node_examples_run(node, program):
    done = node(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "undefined" not in done.stdout


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.stem)
def test_the_clients_in_javascript_cannot_tell_us_from_openai(node, suite):
    done = node(suite, "--test", "--test-reporter=tap")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout
    assert "# pass 0" not in done.stdout
