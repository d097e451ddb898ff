"""The Dockerfile: linted, carried out step by step in a copy of this machine, and what it builds started as a container."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.deploy.box import Box, Container
from tests.deploy.dockerfile import DOCKERFILE, ROOT, Stage, allowed, read

HADOLINT = Path(sys.executable).with_name("hadolint")
BUILD, FINAL = read(DOCKERFILE.read_text("utf-8"))


def lint(text: str) -> str:
    done = subprocess.run(
        [HADOLINT, "--no-color", "--failure-threshold", "style", "-"],
        input=text,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


@pytest.mark.hadolint
def test_the_linter_finds_nothing() -> None:
    assert lint(DOCKERFILE.read_text("utf-8")) == ""


@pytest.mark.hadolint
@pytest.mark.parametrize(
    ("text", "instead", "rule"),
    [
        ("USER 10001:10001", "USER root", "DL3002"),
        ("WORKDIR /src", "WORKDIR src", "DL3000"),
        ('ENTRYPOINT ["headgate"]', "ENTRYPOINT headgate serve", "DL3025"),
        ("python:${PYTHON}-slim\n", "python:latest\n", "DL3007"),
    ],
)
def test_the_linter_finds_what_is_planted(text: str, instead: str, rule: str) -> None:
    planted = DOCKERFILE.read_text("utf-8").replace(text, instead)
    assert rule in lint(planted)


def test_only_what_the_image_needs_reaches_a_builder() -> None:
    lets_in = allowed((ROOT / ".dockerignore").read_text("utf-8"))
    copied = {source for step, value in BUILD.steps if step == "COPY" for source in value.split()[:-1]}

    assert copied == lets_in
    assert all((ROOT / source).exists() for source in copied)


def test_every_package_of_the_image_is_locked_by_its_hash() -> None:
    installs = [value for step, value in BUILD.steps if step == "RUN" and "pip" in value]

    for line in re.split(r"&&", " && ".join(installs)):
        if " download " in line:
            assert "--require-hashes" in line
            assert "--only-binary :all:" in line
        elif " install " in line or " wheel " in line:
            assert "--no-index" in line, line


# ── carried out ─────────────────────────────────────────────────────────────────────────────────


def build(box: Box, stage: Stage, extras: str) -> None:
    """Carry out the steps of a stage; what is kept of earlier downloads serves here, too."""
    variables = {**stage.arguments, **stage.environment, "EXTRAS": extras}
    variables.pop("PIP_NO_CACHE_DIR", None)
    variables.pop("PATH", None)
    folder = "/"
    for step, value in stage.steps:
        if step == "WORKDIR":
            folder = value
        elif step == "RUN":
            box.run(value, folder, **variables)
        elif not value.startswith("--from"):
            *sources, target = value.split()
            for source in sources:
                name = target.removesuffix("./") + source if target.endswith("./") else target
                box.copy(ROOT / source, f"{folder}/{name}")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.close()


@contextmanager
def started(box: Box) -> Iterator[Container]:
    environment = {**FINAL.environment, "PATH": FINAL.environment["PATH"].replace("$PATH", box.path)}
    made = box.start(FINAL.last["USER"], environment, [*FINAL.words("ENTRYPOINT"), *FINAL.words("CMD")])
    yield made
    made.end()


@pytest.mark.sandbox
@pytest.mark.timeout(600)
def test_what_it_builds_serves_as_a_container_does(box: Box) -> None:
    build(box, BUILD, "vault")
    build(box, FINAL, "")
    path = {"PATH": f"/opt/headgate/bin:{box.path}", "HEADGATE_DATA": "/data"}

    holds_what_was_asked_for(box)
    with started(box) as container:
        has_no_rights(container)
        is_healthy_where_it_says(container, path)
        serves_and_books(container, path)
        ends_at_once_and_in_order(container)
    starts_as_the_unit_says(box)


def holds_what_was_asked_for(box: Box) -> None:
    listed = box.run("ls /opt/headgate/lib/python3*/site-packages").splitlines()

    assert {"hvac", "headgate"} <= set(listed)
    assert {"boto3", "pytest", "pip"} & set(listed) == set()


def has_no_rights(container: Container) -> None:
    status = container.status()

    assert status["NSpid"].split()[-1] == "1"
    assert set(status["Uid"].split()) == {"10001"}
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0
    assert container.execute("touch", "/x", "/opt/headgate/x")[1].count("Read-only file system") == 2


def is_healthy_where_it_says(container: Container, path: dict[str, str]) -> None:
    *python, program = FINAL.words("HEALTHCHECK")

    assert container.execute(*python, program, environment=path) == (0, "")
    for text, instead in (("/healthz", "/livez"), ("8787", "8788")):
        assert text in program
        assert container.execute(*python, program.replace(text, instead), environment=path)[0] == 1


def serves_and_books(container: Container, path: dict[str, str]) -> None:
    key = re.search(r"sk-hg-live-\w+", container.said)
    assert key is not None
    asked = ("headgate", "chat", "Say pong")
    code, said = container.execute(*asked, environment={**path, "OPENAI_API_KEY": key[0]})
    assert (code, "pong" in said.lower()) == (0, True), said
    code, said = container.execute("headgate", "ledger", "check", environment=path)
    assert code == 0, said


def ends_at_once_and_in_order(container: Container) -> None:
    assert FINAL.last["STOPSIGNAL"] == "SIGTERM"
    code, took = container.stop(signal.SIGTERM)

    assert code == 0, container.said
    assert "Stopped." in container.said
    assert took < 10


# What the unit's MemoryDenyWriteExecute is to a process, without systemd.
DENY = "import ctypes, os, sys; assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0; os.execvp(sys.argv[1], sys.argv[1:])"


def starts_as_the_unit_says(box: Box) -> None:
    """Start its command by a user whom nobody knows, from a folder that cannot be written, no memory made code."""
    unit = (ROOT / "deploy/systemd/headgate.service").read_text("utf-8")
    command = shlex.split(unit.split("\nExecStart=")[1].split("\n")[0])
    box.copy(ROOT / "deploy/headgate.toml", command[command.index("--config") + 1])
    assert "MemoryDenyWriteExecute=yes" in unit

    denied = [f"{box.python.parent}/python", "-c", DENY, *command]
    container = box.start("61234:61234", {"HEADGATE_DATA": "/data", "PATH": box.path}, denied)
    try:
        assert set(container.status()["Uid"].split()) == {"61234"}
        assert (
            "No provider" in container.said
            or "variable" in container.said
            or "OPENAI_API_KEY" in container.said
        )
        code, _ = container.stop(signal.SIGTERM)
        assert (code, "Stopped" in container.said) == (0, True), container.said
    finally:
        container.end()
