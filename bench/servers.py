"""Build and start what is measured: the mock upstream, nginx and Headgate."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from load import wait_for
from machine import pinned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HERE = Path(__file__).resolve().parent
OWN = HERE.parent / ".venv" / "bin" / "headgate"  # the command that is measured
BUILD = HERE / "build"
READY_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0
COMMAND_LIMIT_S = 300.0
UNDRAINED = "headgate_journal_undrained_records"
LOOP_STALL = "headgate_loop_stall_max_seconds"
CONFIG = """\
[[providers]]
name = "openai"
kind = "openai"
base_url = "http://127.0.0.1:{port}/v1"
api_key = "sk-bench"
[[providers]]
name = "broken"
kind = "openai"
base_url = "http://127.0.0.1:{port}/broken/v1"
api_key = "sk-bench"
models = ["none-*"]
[[prices.rows]]
provider = "broken"
model = "*"
input = 0.15
output = 0.6
[[models]]
name = "falls-back"
targets = [{{ provider = "broken", model = "gpt-4o-mini" }}, {{ provider = "openai", model = "gpt-4o-mini" }}]
[breaker]
row = 0
least = 100_000
window_s = 1.0
[mode]
name = "prepaid"
tier = "bench"
[[tiers]]
name = "bench"
paid = 500_000
cap = 1_000_000
rpm = 100_000_000
tpm = 2_000_000_000
rpd = 1_000_000_000
tpd = 2_000_000_000
concurrency = 100_000
"""


class Unusable(Exception):
    """A candidate cannot be measured; the text says why and what would help."""


def build_tools() -> tuple[Path, Path]:
    """Compile mock and lg into bench/build where they are missing or old; return both."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Unusable("no C compiler. Debian, Ubuntu: apt-get install gcc libc6-dev")
    BUILD.mkdir(exist_ok=True)
    built = []
    for name in ("mock", "lg"):
        source, target = HERE / f"{name}.c", BUILD / name
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            fresh = target.with_suffix(f".{os.getpid()}")
            argv = [compiler, "-O2", "-Wall", "-o", str(fresh), str(source)]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Unusable(f"{name}.c does not compile:\n{done.stderr}")
            fresh.replace(target)
        built.append(target)
    return built[0], built[1]


def find_nginx() -> str | None:
    """Find nginx, also where Debian hides it from ordinary users."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(port: int, path: str, limit_s: float = 5.0) -> tuple[int, bytes]:
    """GET a path of a local server; status 0 when there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def clean_environment() -> dict[str, str]:
    """Return an environment without provider keys, proxies or settings of the gateway."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER")
    return {name: os.environ[name] for name in kept if name in os.environ}


class Server:
    """A running process that listens on a port."""

    def __init__(self, name: str, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self.name = name
        self.port = port
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Return the process at the root of its tree."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Say whether it still runs."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """Return the end of what it wrote."""
        with contextlib.suppress(OSError):
            return self._log.read_text(errors="replace")[-1500:].strip()
        return ""

    def stop(self) -> int:
        """Ask it to end, insist after a minute; return its exit status."""
        if self.alive:
            self._process.terminate()
        try:
            return self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Unusable(f"{self.name} did not stop within {STOP_LIMIT_S:.0f} s") from None

    def kill(self) -> None:
        """End it and its children at once, as a power switch would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_LIMIT_S)


def _launch(name: str, argv: Sequence[str], cwd: Path, core: int, port: int) -> Server:
    log = cwd / f"{name}.log"
    with pinned(core), log.open("ab") as out:
        process = subprocess.Popen(
            argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True,
            env=clean_environment(), start_new_session=True,
        )  # fmt: skip
    return Server(name, process, port, log)


def start_mock(binary: Path, folder: Path, core: int) -> Server:
    """Start the mock upstream on a port of its choice."""
    server = _launch("mock", [str(binary), "0"], folder, core, 0)
    if wait_for(lambda: bool(server.last_words()), 5.0) is None:
        raise Unusable("the mock upstream did not start")
    server.port = int(server.last_words().split()[-1])
    return server


def start_nginx(binary: str, upstream: int, folder: Path, core: int) -> Server:
    """Start nginx as a bare proxy to the upstream."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    text = (HERE / "nginx.conf").read_text()
    conf = folder / "nginx.conf"
    conf.write_text(text.replace("@UPSTREAM@", str(upstream)).replace("@PORT@", str(port)))
    argv = [binary, "-p", str(folder), "-c", str(conf), "-e", str(folder / "error.log")]
    server = _launch("nginx", argv, folder, core, port)
    if wait_for(lambda: fetch(port, "/stats")[0] == 200, 5.0) is None:
        words = server.last_words()
        server.kill()
        raise Unusable(f"nginx did not start: {words}")
    return server


class Headgate:
    """One installation of the gateway with one data folder."""

    def __init__(
        self,
        binary: Path,
        folder: Path,
        upstream: int,
        cores: tuple[int, int],
        *,
        monitor: int = 0,
        storage: Mapping[str, str] | None = None,
    ) -> None:
        self.binary = binary
        self.folder = folder
        self.data = folder / "data"
        self._gateway_core, self._load_core = self._cores = cores
        self._upstream = upstream
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "headgate.toml"
        self.monitor = monitor  # the port of a second listener, for health; 0: none
        second = f"[server]\nmonitor_port = {monitor}\n" if monitor else ""
        if storage:  # where the books are, if not in the data folder
            second += "".join(["[storage]\n", *(f'{name} = "{url}"\n' for name, url in storage.items())])
        self._config.write_text(second + CONFIG.format(port=upstream))

    def elsewhere(self, name: str) -> Headgate:
        """Return the same gateway with a data folder of its own."""
        return Headgate(self.binary, self.folder.parent / name, self._upstream, self._cores)

    def launch(self) -> Server:
        """Start the gateway without waiting."""
        port = free_port()
        argv = [str(self.binary), "serve", "--host", "127.0.0.1", "--port", str(port)]
        argv += ["--data", str(self.data), "--config", str(self._config)]
        argv += ["--cap", "1000000/month", "--workers", "1"]
        if not self.binary.exists():
            raise Unusable(f"{self.binary} does not exist; run `make env`")
        return _launch("headgate", argv, self.folder, self._gateway_core, port)

    def start(self) -> tuple[Server, float]:
        """Start the gateway; return it and the seconds to its first 200 on /readyz."""
        began = time.monotonic()
        server = self.launch()

        def ready() -> bool:
            return not server.alive or fetch(server.port, "/readyz")[0] == 200

        took = wait_for(ready, READY_LIMIT_S)
        if took is None or not server.alive:
            words = server.last_words()
            server.kill()
            why = "was not ready in time" if took is None else "ended at once"
            raise Unusable(f"headgate {why}:\n{words}")
        return server, time.monotonic() - began

    def create_key(self) -> str:
        """Create a key with everything that is checked for each call, and never reached.

        Four limits of its own and its tier's, budgets on it, its project and its account (beside the tier's
        cap and `--cap`), and paid credit that the calls spend.
        """
        key = self.add_key("bench")
        for scope in (("--key", "bench"), ("--project", "default"), ("--account", "default")):
            self.command("budgets", "create", "900000/month", *scope)
        self.command("credit", "top-up", "1000000", "--reference", "bench")
        return key

    def add_key(self, name: str, *words: str) -> str:
        """Create a key with four limits that are never reached."""
        limits = ("--rpm", "100000000", "--tpm", "2000000000", "--rpd", "1000000000", "--tpd", "2000000000")
        said = self.command("keys", "create", "--name", name, *limits, *words, "--json")
        try:
            return str(json.loads(said)["key"])
        except (ValueError, KeyError, TypeError):
            raise Unusable(f"`headgate keys create --json` printed no key: {said[:300]}") from None

    def calls(self) -> dict[str, Any] | list[Any]:
        """Return what `headgate usage --json` prints."""
        said = self.command("usage", "--json")
        try:
            usage: dict[str, Any] | list[Any] = json.loads(said)
        except ValueError:
            raise Unusable(f"`headgate usage --json` printed no JSON: {said[:300]}") from None
        return usage

    def check(self) -> tuple[int, str]:
        """Run `headgate ledger check`; return its exit status and what it said."""
        done = self._run("ledger", "check")
        return done.returncode, (done.stdout + done.stderr).strip()

    def command(self, *words: str) -> str:
        """Run a command of the CLI on this data folder and return its output."""
        done = self._run(*words)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-800:]
            raise Unusable(f"`headgate {' '.join(words[:2])}` failed ({done.returncode}): {said}")
        return done.stdout

    def say_version(self) -> float:
        """Return the seconds that `headgate --version` takes."""
        began = time.monotonic()
        with pinned(self._load_core):
            subprocess.run([str(self.binary), "--version"], check=True, capture_output=True)
        return time.monotonic() - began

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [str(self.binary), *words, "--data", str(self.data)]
        try:
            with pinned(self._load_core):
                return subprocess.run(
                    argv, cwd=self.folder, capture_output=True, text=True, check=False,
                    timeout=COMMAND_LIMIT_S, env=clean_environment(), stdin=subprocess.DEVNULL,
                )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as failure:
            raise Unusable(f"`headgate {' '.join(words[:2])}` did not run: {failure}") from failure


def conclude(name: str, measure: Callable[[Path], list[str]]) -> int:
    """Measure in a folder of its own, and print what was wrong; return the exit status."""
    with tempfile.TemporaryDirectory(prefix=f"headgate-{name}-") as folder:
        try:
            failures = measure(Path(folder))
        except Unusable as failure:
            failures = [str(failure)]
    for text in failures:
        print(f"WRONG: {text}", file=sys.stderr)
    return 1 if failures else 0


def metrics(port: int) -> dict[str, float]:
    """Return the gauges and counters of /metrics, summed over their labels."""
    status, body = fetch(port, "/metrics")
    sums: dict[str, float] = {}
    if status != 200:
        return sums
    for line in body.decode(errors="replace").splitlines():
        name, _, value = line.rpartition(" ")
        if not line.startswith("#") and name:
            with contextlib.suppress(ValueError):
                plain = name.partition("{")[0]
                sums[plain] = sums.get(plain, 0.0) + float(value)
    return sums
