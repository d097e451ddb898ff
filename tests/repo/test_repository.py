"""The repository itself: what is locked, what a wheel holds, and that the checks can fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
LIMITS = ROOT / "tools/check_limits.py"
PYPROJECT = ROOT / "pyproject.toml"


@cache
def locked(lock: str) -> dict[str, str]:
    text = (ROOT / "requirements" / lock).read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)", text, re.MULTILINE))


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )


# ── locks ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_no_host_and_hashes_every_package(lock: Path) -> None:
    text = lock.read_text("utf-8")

    assert "://" not in text
    assert not re.search(
        r"^\s*(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)\b", text, re.MULTILINE
    )
    packages = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert packages
    assert [package.split()[0] for package in packages if "--hash=sha256:" not in package] == []


def test_larger_locks_hold_the_smaller_ones_at_the_same_versions() -> None:
    assert locked("base.txt").items() <= locked("run.txt").items() <= locked("dev.txt").items()
    assert locked("base.txt").items() <= locked("image.txt").items() <= locked("dev.txt").items()


def test_the_locks_satisfy_what_the_package_asks_for() -> None:
    settings = tomllib.loads(PYPROJECT.read_text("utf-8"))
    project, groups = settings["project"], settings["dependency-groups"]
    extras = project["optional-dependencies"]
    serving = [
        line for name, lines in extras.items() if name not in {"all", "client", "dev"} for line in lines
    ]
    asked = {
        "base.txt": project["dependencies"],
        "run.txt": [*extras["client"], *groups["build"], *settings["build-system"]["requires"]],
        "dev.txt": extras["dev"],
        "image.txt": [*serving, *groups["build"]],
        "lock.txt": groups["lock"],
    }
    for lock, lines in asked.items():
        for requirement in map(Requirement, lines):
            name = canonicalize_name(requirement.name)
            if name != "headgate":
                assert name in locked(lock), f"{name} is not in {lock}: make lock"
                assert requirement.specifier.contains(locked(lock)[name]), f"{name} in {lock}: make lock"


def test_the_extra_all_is_every_one_that_a_server_may_need() -> None:
    extras = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["optional-dependencies"]

    assert Requirement(extras["all"][0]).extras == set(extras) - {"all", "client", "dev"}


def test_the_run_time_set_stays_small() -> None:
    packages = locked("base.txt")
    files = (Path(str(file.locate())) for name in packages for file in distribution(name).files or ())
    size = sum(file.stat().st_size for file in files if file.is_file())

    assert len(packages) <= 50
    assert 1_000_000 < size <= 100_000_000


# ── package ─────────────────────────────────────────────────────────────────────────────────────


def test_a_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    tree = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "src/headgate")
    listing = run("git", *tree, cwd=ROOT).stdout
    files = {path.removeprefix("src/") for path in listing.split("\0") if path and (ROOT / path).exists()}

    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=ROOT)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = set(wheel.namelist())

    assert {"headgate/py.typed", "headgate/providers/hosts.toml", "headgate/data/prices.json"} <= files
    assert files <= held
    assert {name.split("/")[0].split("-")[0] for name in held} == {"headgate"}


HEAVY = {
    "alembic", "argon2", "asyncio", "click", "headgate.app", "httptools", "jinja2", "msgspec", "openai",
    "prometheus_client", "pydantic", "regex", "requests", "rich", "sqlalchemy", "sqlite3", "starlette",
    "structlog", "tiktoken", "uvloop", "watchfiles",
}  # fmt: skip


def test_asking_for_the_version_imports_nothing_heavy() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['headgate', '--version']\n"
        "try:\n"
        "    runpy.run_module('headgate', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)\n"
    )
    answer = run(sys.executable, "-c", code)

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip().endswith(distribution("headgate").version)
    assert HEAVY & set(answer.stderr.split()) == set()


# ── checks that can fail ────────────────────────────────────────────────────────────────────────


def checkout(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    run("git", "init", "-q", cwd=folder)
    return folder


def function(lines: int) -> str:
    return "def long() -> None:\n" + "    x = 1\n" * (lines - 1)


REGISTRY = {"src/headgate/providers/hosts.toml": '[acme]\ntitle = "Acme"\n[openai]\n[together]\n'}
PLANTED = {
    "a long source file": ("src/headgate/a.py", "x = 1\n" * 501, "501 lines"),
    "a long test": ("tests/test_a.py", "x = 1\n" * 501, "501 lines"),
    "a long script": ("tools/a.sh", "true\n" * 501, "501 lines"),
    "a long function": ("src/headgate/a.py", function(61), "long has 61 lines"),
    "a long method": (
        "src/headgate/a.py",
        "class A:\n  async " + function(61).replace("\n", "\n  "),
        "61 lines",
    ),
    "a provider's name as a value": ("src/headgate/routing/a.py", 'if kind == "acme":\n    pass\n', "'acme'"),
    "a provider's name in a name": (
        "src/headgate/routing/a.py",
        "def fix_acme_stream() -> None: ...\n",
        "'acme'",
    ),
    "a word that is a provider": ("src/headgate/a.py", 'NAME = "together"\n', "'together'"),
    "a provider's name beside the providers' own files": (
        "src/headgate/providers/chat.py",
        'chunk.pop("x_acme")\n',
        "'acme'",
    ),
    "a waived rule": ("src/headgate/a.py", "import os  # {}: F401\n".format("noqa"), "waives a rule"),
    "a registry's host": ("docs/a.md", "from files.{}\n".format("pythonhosted.org"), "registry host"),
}
ALLOWED = {
    "src/headgate/a.py": '"""Speaks to acme."""\n'
    + function(60)
    + '# together\nHELP = "e.g. acme=1 or so"\nWIRE = "openai"\n',
    "src/headgate/providers/acme.py": 'NAME = "acme"\n',
    "src/headgate/providers/together/answer.py": 'NAMES = ("together", "acme")\n',
    "src/headgate/providers/registry.py": 'NAME = "acme"\n',
    "src/headgate/data/prices.json": "1\n" * 900,
    "tests/test_a.py": function(70) + 'HOST = "acme"\n',
}  # fmt: skip


def test_the_limits_accept_what_is_within_them(tmp_path: Path) -> None:
    verdict = run(sys.executable, LIMITS, checkout(tmp_path, REGISTRY | ALLOWED))

    assert (verdict.stdout, verdict.returncode) == ("limits: kept\n", 0)


@pytest.mark.parametrize(("path", "text", "said"), PLANTED.values(), ids=PLANTED)
def test_the_limits_find_a_planted_violation(tmp_path: Path, path: str, text: str, said: str) -> None:
    verdict = run(sys.executable, LIMITS, checkout(tmp_path, REGISTRY | {path: text}))

    assert verdict.returncode == 1
    first, last = verdict.stdout.splitlines()
    assert first.startswith(path)
    assert said in first
    assert last == "limits: 1 violations"


UPWARD = {
    "a stage imports a stage": ("admission/rate.py", "headgate.routing.routes"),
    "a stage imports the path": ("routing/routes.py", "headgate.pipeline"),
    "the path names a store": ("pipeline.py", "headgate.stores"),
    "the path reads settings": ("pipeline.py", "headgate.config"),
    "the wire does I/O": ("wire/checks.py", "asyncio"),
    "a provider opens a socket": ("providers/openai.py", "socket"),
    "money opens a database": ("money/cost.py", "sqlite3"),
    "values look up": ("values.py", "headgate.ports"),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "data"))
    shutil.copy(PYPROJECT, tmp_path)
    return tmp_path


def contracts(root: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("lint-imports")
    return run(command, "--no-cache", cwd=root, env=os.environ | {"PYTHONPATH": str(root / "src")})


def test_imports_point_down(tree: Path) -> None:
    verdict = contracts(tree)

    assert verdict.returncode == 0, verdict.stdout


@pytest.mark.parametrize(("path", "module"), UPWARD.values(), ids=UPWARD)
def test_the_contracts_find_an_import_that_points_up(tree: Path, path: str, module: str) -> None:
    with (tree / "src/headgate" / path).open("a") as file:
        file.write(f"\nimport {module}\n")

    verdict = contracts(tree)

    assert verdict.returncode == 1
    assert f"{path.removesuffix('.py').replace('/', '.')} -> {module}" in verdict.stdout


def test_the_architecture_draws_the_layers_that_are_enforced() -> None:
    settings = tomllib.loads(PYPROJECT.read_text("utf-8"))["tool"]["importlinter"]
    [layers] = [contract["layers"] for contract in settings["contracts"] if contract["id"] == "layers"]
    there = {path.stem for path in (ROOT / "src/headgate").iterdir()}
    enforced = [there.intersection(re.findall(r"\w+", layer)) for layer in layers]
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    drawn = re.search(r"`(cli ▸[^`]+)`", text)

    assert drawn
    assert {name for layer in layers for name in re.findall(r"\w+", layer)} <= there
    assert [set(re.findall(r"\w+", layer)) for layer in drawn[1].split("▸")] == [
        names for names in enforced if names - {"__main__"}
    ]


def test_the_long_forms_that_are_listed_are_those_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", "")
    recipes = re.findall(r"^([a-z-]+):.*##.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    long = {target for target, recipe in recipes if re.search(r"\$\(LONG\)|-m (pytest -q|tests\.)", recipe)}
    section = (
        (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Long forms")[2].partition("\n## ")[0]
    )
    assert {*re.findall(r"`make ([a-z-]+)`", section)} - {"test"} == long - {
        "zoo"
    }  # which has a section of its own


# ── first steps ─────────────────────────────────────────────────────────────────────────────────


def test_make_says_what_to_install_when_no_python_fits(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(PYPROJECT, tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")

    answer = run("make", "env", "PYTHON=/bin/false", cwd=tmp_path)

    assert answer.returncode == 2
    assert "No Python >= 3.11" in answer.stderr
    assert "apt-get install python3-venv" in answer.stderr
    assert not (tmp_path / ".venv").exists()


BARE = ("-p", "no:cacheprovider", "-p", "no:schemathesis")
SKIPPED = {
    "cc or gcc or clang": "@pytest.mark.compiler\ndef test_builds(): pass\n",
    "a condition": "@pytest.mark.skipif(True, reason='a condition')\ndef test_builds(): pass\n",
    "an import": "pytest.importorskip('nobody.has.this', reason='an import')\n",
}


@pytest.mark.parametrize("what", SKIPPED)
@pytest.mark.parametrize("required", [False, True])
def test_what_is_left_out_is_named_or_fails(tmp_path: Path, required: bool, what: str) -> None:
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = compiler: needs one\n")
    (tmp_path / "test_a.py").write_text("import pytest\n\n" + SKIPPED[what])
    (tmp_path / "test_b.py").write_text("def test_runs(): pass\n")
    environment = {"PATH": str(tmp_path), "HEADGATE_REQUIRE_ALL": str(int(required))}

    answer = run(sys.executable, "-m", "pytest", "-ra", *BARE, cwd=tmp_path, env=environment)

    assert bool(answer.returncode) is required
    assert what in answer.stdout
    assert ("HEADGATE_REQUIRE_ALL=1" in answer.stdout) is required


def test_what_a_machine_lacks_is_named_with_the_tests_that_need_it(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = compiler: needs one\n")
    (tmp_path / "test_a.py").write_text("import pytest\n\n" + SKIPPED["cc or gcc or clang"])
    environment = {"PATH": str(tmp_path)}

    answer = run(sys.executable, "-m", "pytest", *BARE, cwd=tmp_path, env=environment)

    assert "needs cc or gcc or clang:\n  test_a.py::test_builds" in answer.stdout
