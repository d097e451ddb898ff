"""Node's modules for the tests: installed once from the lock in tests/node, into build/node."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests" / "node"
BUILT = ROOT / "build" / "node"
MANIFESTS = ("package.json", "package-lock.json")


def install_modules() -> Path:
    """Return the folder that has `node_modules`, installed if it is not what the lock says.

    Safe with several test processes: the first one installs and the others wait for it.
    """
    BUILT.mkdir(parents=True, exist_ok=True)
    wanted = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in MANIFESTS)).hexdigest()
    done = BUILT / "installed"
    with (BUILT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.is_file() and done.read_text() == wanted:
            return BUILT
        for name in MANIFESTS:
            shutil.copyfile(SOURCE / name, BUILT / name)
        subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
            cwd=BUILT,
            check=True,
        )
        done.write_text(wanted)
    return BUILT
