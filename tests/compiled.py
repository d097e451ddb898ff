"""Compile what every process of tests imports once, before these start.

Each of them would do it, at the same moment as the others: on a clean clone that is most of the time until the first
test. They take what is compiled by the rules that they ever have, so a file that is missing here costs time alone.
"""

from __future__ import annotations

import compileall
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest
from _pytest.assertion import rewrite

_ROOT = Path(__file__).parents[1]
# Packages of many modules: who imports one compiles what it needs of it, and not all that is installed.
_LARGE = (
    "schemathesis",
    "openai.resources",
    "sqlalchemy.dialects.postgresql",
    "alembic.command",
    "hypothesis.stateful",
    "aio_pika",
    "taskiq",
    "botocore.session",
    "redis.asyncio",
    "pydantic.main",
    "headgate.serving",
    "rich.console",
)


def compile_all(config: pytest.Config) -> None:
    """Compile Headgate, what pytest makes of its tests, and what large packages need, on every core."""
    if sys.dont_write_bytecode or not hasattr(os, "fork"):
        return
    files = sorted(path for folder in ("src", "tests", "bench") for path in (_ROOT / folder).rglob("*.py"))
    cores = os.cpu_count() or 1
    children = [_forked(config, files[first::cores], _LARGE[first::cores]) for first in range(cores)]
    for child in children:
        os.waitpid(child, 0)


def _forked(config: pytest.Config, files: Sequence[Path], packages: Sequence[str]) -> int:
    child = os.fork()
    if not child:
        try:
            for file in files:
                _compile(config, file)
            for package in packages:
                import_module(package)
        finally:
            os._exit(0)  # a file that cannot be compiled is told of by the test that needs it
    return child


def _compile(config: pytest.Config, file: Path) -> None:
    if not file.match("test_*.py") and file.name != "conftest.py":
        compileall.compile_file(file, quiet=2)
        return
    state = config.stash[rewrite.assertstate_key]
    folder = rewrite.get_cache_dir(file)
    compiled = folder / (file.stem + rewrite.PYC_TAIL)
    if rewrite.try_makedirs(folder) and rewrite._read_pyc(file, compiled) is None:
        source, code = rewrite._rewrite_test(file, config)
        rewrite._write_pyc(state, code, source, compiled)
