"""A copy of this machine that a Dockerfile can be carried out in: an overlay that nobody else sees.

What is written lands in memory and is gone with the box. The steps run as they stand, as root, in a changed
root; what was built is then started as a container is: as a process 1 of its own, in a network of its own, on a
read-only root file system, as a user without rights. Needs root and Linux.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_MAKE = """
set -e
mount -t tmpfs tmpfs {box}
mkdir {box}/up {box}/work {box}/root
mount -t overlay overlay -o lowerdir=/,upperdir={box}/up,workdir={box}/work {box}/root
mount --rbind /dev {box}/root/dev
mount -t proc proc {box}/root/proc
echo made
exec sleep infinity
"""
_CONTAINER = """
set -e
ip link set lo up
mount -o remount,bind,ro {root}
mount -t proc proc {root}/proc
mount -t tmpfs tmpfs {root}/tmp
mkdir -p {data} && mount --bind {data} {root}/data
exec chroot {root} setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs --bounding-set=-all \
  env --ignore-environment --chdir=/data "$@"
"""


class Box:
    """A copy of this machine.

    Args:
        folder: an empty one, where it is mounted for those who are in it.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._data = folder.parent / f"{folder.name}-data"
        self._data.mkdir()
        script = _MAKE.format(box=folder)
        self._keeper = subprocess.Popen(["unshare", "--mount", "bash", "-c", script], stdout=subprocess.PIPE)
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"made\n"
        self._enter = ["nsenter", "--target", str(self._keeper.pid), "--mount"]
        self.python = Path(sys.executable).resolve()
        # An image has a `python` that everybody may run; this machine's may be the superuser's own.
        parents = " ".join(map(str, self.python.parents))
        self.run(
            f"chmod a+x {parents}; cd {self.python.parent}; [ -e python ] || ln -s {self.python.name} python"
        )

    def close(self) -> None:
        """Forget everything that was written."""
        self._keeper.kill()
        self._keeper.wait()
        assert self._keeper.stdout is not None
        self._keeper.stdout.close()
        shutil.rmtree(self._data)

    @property
    def path(self) -> str:
        """Return where programs are found in the image that this machine stands for."""
        return f"{self.python.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    def run(self, script: str, folder: str = "/", **environment: str) -> str:
        """Carry out a RUN step."""
        kept = {
            name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HOME"))
        }
        command = ["chroot", str(self.root), "sh", "-ec", f"mkdir -p {folder}; cd {folder}; {script}"]
        done = subprocess.run(
            [*self._enter, *command],
            env={**kept, "PATH": self.path, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def copy(self, source: Path, target: str) -> None:
        """Carry out a COPY step from outside: what a user who can read nothing else brings."""
        inside = f"{self.root}{target}"
        subprocess.run(
            [*self._enter, "sh", "-ec", f'mkdir -p "$(dirname {inside})"; cp -r {source} {inside}'],
            check=True,
        )

    def start(self, user: str, environment: Mapping[str, str], command: Sequence[str]) -> Container:
        """Start what was built."""
        subprocess.run(["chown", "-R", user, str(self._data)], check=True)
        self._data.chmod(0o700)
        script = _CONTAINER.format(root=self.root, data=self._data, user=user.partition(":")[0])
        variables = [f"{name}={value}" for name, value in environment.items()]
        inner = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"]
        return Container(
            [*self._enter, *inner, "bash", "-c", script, "bash", *variables, *command], self.root
        )


class Container:
    """A started image: its process 1, and a way in."""

    def __init__(self, command: Sequence[str], root: Path) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._root = root
        self.said = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if "Ctrl-C" in line:
                break
        else:
            raise AssertionError(f"it did not start:\n{self.said}")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.pid = int(children.read_text().split()[0])  # of its process 1, as we see it

    def execute(self, *command: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run a command in it, as `docker exec` and a health check do."""
        inside = [
            "nsenter",
            "--target",
            str(self.pid),
            "--mount",
            "--net",
            "--pid",
            "chroot",
            str(self._root),
        ]
        user = ["setpriv", "--reuid", "10001", "--regid", "10001", "--clear-groups"]
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        done = subprocess.run(
            [*inside, *user, "env", "--ignore-environment", *variables, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout

    def status(self) -> dict[str, str]:
        """Return what the kernel says of its process 1."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    def stop(self, how: int) -> tuple[int, float]:
        """Send its process 1 a signal; return the exit code and how long it took."""
        began = time.monotonic()
        os.kill(self.pid, how)
        out, _ = self.process.communicate(timeout=60)
        self.said += out
        return self.process.returncode, time.monotonic() - began

    def end(self) -> None:
        """Kill it, if it still runs. A change of user ended its tie to its parent, so it is told itself."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()
