"""The systemd unit: verified by systemd's own tools, and its filter against what a gateway asks the kernel for."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import httpx2 as httpx
import pytest
from tests.surfaces.conftest import HEADGATE, InstalledGateway

from headgate.config import ServeOptions, load
from headgate.serving import EXIT_CONFIG

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd/headgate.service"
PROGRAM = "/opt/headgate/bin/headgate"


def setting(name: str) -> list[str]:
    """Return the values of a setting, line by line."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)


def analyze(*words: str) -> tuple[int, str]:
    done = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def installed(folder: Path, text: str) -> Path:
    """Return the unit as it is where the program is installed."""
    copy = folder / UNIT.name
    copy.write_text(text.replace(PROGRAM, HEADGATE))
    return copy


@pytest.mark.systemd
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    text = UNIT.read_text("utf-8")

    assert analyze("verify", str(installed(tmp_path, text))) == (0, "")
    wrong = installed(tmp_path, text.replace("ProtectSystem=strict", "ProtectSytem=strict"))
    assert "Unknown key" in analyze("verify", str(wrong))[1]


@pytest.mark.systemd
def test_the_nightly_check_is_understood_too_and_asks_for_a_command_that_exists(tmp_path: Path) -> None:
    for name in ("headgate-check.service", "headgate-check.timer"):
        (tmp_path / name).write_text((UNIT.parent / name).read_text("utf-8").replace(PROGRAM, HEADGATE))
    check = (UNIT.parent / "headgate-check.service").read_text("utf-8")
    words = re.findall(r"^ExecStart=\S+ (.*)$", check, re.MULTILINE)[0].split()

    assert analyze("verify", str(tmp_path / "headgate-check.timer")) == (0, "")
    asked = subprocess.run([HEADGATE, *words, "--help"], capture_output=True, text=True, check=False)
    assert asked.returncode == 0
    assert "1 when not" in asked.stdout  # so the unit fails


@pytest.mark.systemd
def test_it_is_exposed_to_little(tmp_path: Path) -> None:
    text = UNIT.read_text("utf-8")
    rated = ("security", "--offline=true", "--no-pager", "--threshold=15")  # of 100

    assert analyze(*rated, str(installed(tmp_path, text)))[0] == 0
    open_one = re.sub(
        r"^(CapabilityBoundingSet|SystemCallFilter|PrivateUsers)=.*\n", "", text, flags=re.MULTILINE
    )
    assert analyze(*rated, str(installed(tmp_path, open_one)))[0] != 0


def test_it_waits_for_calls_and_starts_again_only_where_that_may_help(tmp_path: Path) -> None:
    server = load(ServeOptions(config=str(ROOT / "deploy/headgate.toml"), env_file=""), {}).server

    assert int(setting("TimeoutStopSec")[0]) >= server.leave_s + server.drain_s + 15
    # EXIT_DATA is also that of a database which is not up yet, so it is tried again, without an end.
    assert setting("RestartPreventExitStatus") == [f"{EXIT_CONFIG}"]
    assert setting("StartLimitIntervalSec") == ["0"]
    assert float(setting("RestartSec")[0]) >= 5


# ── what the kernel is asked for ────────────────────────────────────────────────────────────────


@cache
def group(name: str) -> frozenset[str]:
    """Return the calls of one of systemd's groups."""
    found: set[str] = set()
    for line in analyze("syscall-filter", name)[1].splitlines()[1:]:
        word = line.strip()
        if word and not word.startswith("#"):
            found |= group(word) if word.startswith("@") else {word}
    return frozenset(found)


def let_through() -> frozenset[str]:
    """Return the calls that the unit's filter lets through."""
    calls: frozenset[str] = frozenset()
    for line in setting("SystemCallFilter"):
        named = frozenset[str]().union(*(group(name) for name in line.removeprefix("~").split()))
        calls = calls - named if line.startswith("~") else calls | named
    return calls


@pytest.mark.systemd
@pytest.mark.strace
@pytest.mark.timeout(180)
def test_the_filter_lets_through_what_a_gateway_asks_the_kernel_for(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    gateway = InstalledGateway(
        tmp_path / "traced", "--workers", "2", program=("strace", "-f", "-qq", "-o", str(trace), HEADGATE)
    )
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say pong"}]}
    for _ in range(4):
        headers = {"authorization": f"Bearer {gateway.key}"}
        answer = httpx.post(f"{gateway.base}/chat/completions", json=body, headers=headers, timeout=30)
        assert answer.status_code == 200
    subprocess.run(["pkill", "-TERM", "-P", str(gateway.process.pid)], check=True)
    gateway.process.communicate(timeout=90)
    asked = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text("utf-8"), re.MULTILINE))

    assert {"accept4", "fdatasync", "epoll_wait"} <= asked or {"accept4", "fdatasync", "epoll_pwait"} <= asked
    # SQLite gives its files to their owner where the superuser runs it, as this test may be.
    assert asked - let_through() - {"fchown"} == set()
    assert "mount" not in let_through()
    assert "ptrace" not in let_through()
