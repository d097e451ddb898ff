"""What every test may ask for: the asyncio backend, and things that a machine may lack.

A test names what it needs with a marker (`node`, `browser`, `compiler`, `nginx`, `services`, ...). Where
that is missing the test is left out and the summary says so by name; with HEADGATE_REQUIRE_ALL=1, as
in CI, it fails instead.
"""

from __future__ import annotations

import gc
import os
import shutil
import socket
import sys
from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from headgate.stores.sql.database import Place

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
LEFT_OUT = "left out, needs "
PORTS = {"postgresql": 5432, "redis": 6379, "rabbitmq": 5672}
# Any one of these commands will do.
COMMANDS: dict[str, list[tuple[str, ...]]] = {
    "node": [("node",), ("npm",)],
    "browser": [("chromium", "chromium-browser", "google-chrome")],
    "compiler": [("cc", "gcc", "clang")],
    "nginx": [("nginx", "/usr/sbin/nginx")],
    "caddy": [("caddy",)],
    "systemd": [("systemd-analyze",)],
    "strace": [("strace",)],
    "promtool": [("promtool",)],
    "hadolint": [(str(Path(sys.executable).with_name("hadolint")),)],
    "sandbox": [("unshare",), ("nsenter",), ("setpriv",), ("ip", "/usr/sbin/ip")],
    "mount": [("mount",), ("umount",)],
    "redis": [("redis-server", "valkey-server")],
    "rabbitmq": [("rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server"), ("epmd",)],
}


def pytest_sessionstart(session: pytest.Session) -> None:
    if getattr(session.config.option, "dist", "no") != "no":  # the first, which starts the others
        from tests.compiled import compile_all

        compile_all(session.config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the collector rest while thousands of tests are made that stay, and not look at them afterwards."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def _new_place(request: pytest.FixtureRequest, factory: pytest.TempPathFactory) -> Iterator[Place]:
    from tests.memory import in_memory

    with in_memory(factory) as folder:
        if request.param == "sqlite":
            yield folder
            return
        from tests.recycled import recycled_database

        from headgate.stores.sql.database import Database

        with recycled_database() as url:
            yield Database(folder, url)


PLACES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.services("postgresql"))]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Give a new data folder, once with books in SQLite and once with an empty database of PostgreSQL."""
    from tests.stores.records import CLOCK, IDS, START

    CLOCK.now = START
    IDS.rewind()  # tests before may have moved the clock, and ids never go back
    with _new_place(request, tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module", params=PLACES)
def shared_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Give the same as `place`, for all tests of a module that ask the same books and write nothing."""
    with _new_place(request, tmp_path_factory) as made:
        yield made


@cache
def _listens(service: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", PORTS[service]), timeout=1.0).close()
    except OSError:
        return False
    return True


def _missing(marker: pytest.Mark) -> list[str]:
    if marker.name == "services":
        return [name for name in marker.args or PORTS if not _listens(name)]
    if marker.name == "helm" and find_spec("helm_python") is None:
        return ["helm-python-sdk"]
    if marker.name == "postgres":
        from tests.several.database import binaries

        return [] if binaries() else ["initdb"]
    if marker.name in {"sandbox", "mount"} and os.geteuid() != 0:
        return ["root"]
    if marker.name in COMMANDS:
        return [" or ".join(group) for group in COMMANDS[marker.name] if not any(map(shutil.which, group))]
    return []


def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = list(dict.fromkeys(name for marker in item.iter_markers() for name in _missing(marker)))
    if missing:
        pytest.skip(LEFT_OUT + ", ".join(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _required((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _required((yield))


def _required(report: Report) -> Report:
    """Let a skip be a failure where nothing may be left out, whatever skipped it: a marker, a condition, an import."""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("HEADGATE_REQUIRE_ALL") == "1":
        report.outcome = "failed"
        report.longrepr = f"{_reason(report)}, and HEADGATE_REQUIRE_ALL=1"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else ""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    left_out: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        _, found, what = _reason(report).partition(LEFT_OUT)
        if found:
            left_out[what].append(report.nodeid)
    if left_out:
        terminalreporter.section("left out on this machine")
    for what, tests in sorted(left_out.items()):
        terminalreporter.line(f"needs {what}:")
        for test in sorted(tests):
            terminalreporter.line(f"  {test}")
