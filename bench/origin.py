"""What exactly was measured: interpreter, versions, machine, the hash of the code that ran."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from servers import HERE, clean_environment, find_nginx

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES = ("headgate", "uvloop", "httptools", "msgspec", "SQLAlchemy")
ASK = f"""
import importlib.metadata as m, json, platform, sys
found = {{}}
for name in {PACKAGES!r}:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        found[name] = "absent"
print(json.dumps({{"python": platform.python_implementation() + " " + sys.version, **found}}))
"""


def describe(headgate: Path) -> dict[str, str]:
    """Describe the candidates and the machine."""
    facts = {
        "machine": f"{_cpu()}, {platform.platform()}",
        "nginx": _output([find_nginx() or "nginx", "-v"]) or "absent",
        "commit": _commit(),
        "source sha256": _source_hash(HERE.parent / "src" / "headgate"),
    }
    python = headgate.parent / "python"
    said = _output([str(python), "-c", ASK]) if python.exists() else ""
    if said:
        facts |= {key: " ".join(value.split()) for key, value in json.loads(said).items()}
    else:
        facts["headgate"] = f"absent: no interpreter beside {headgate}"
    return facts


def file_system(folder: Path) -> str:
    """Return the type of the file system that holds the journal."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if folder.is_relative_to(where) and len(where) >= len(best[0]):
            best = (where, kind)
    return best[1]


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _output(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=30, env=clean_environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip() if done.returncode == 0 else ""


def _commit() -> str:
    git = ["git", "-C", str(HERE.parent)]
    commit = _output([*git, "rev-parse", "--short=12", "HEAD"])
    if not commit:
        return "no git checkout"
    dirty = _output([*git, "status", "--porcelain", "--", "src"])
    return commit + (" with uncommitted changes" if dirty else "")


def _source_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
