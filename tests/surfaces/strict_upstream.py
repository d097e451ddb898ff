"""A provider that knows OpenAI's description, and a recorder in front of it.

`Steady` (npm: @stdy/cli) checks each request against tests/spec/openai-openapi.json.gz, refuses a wrong one
with 400, and answers a right one with a body that is random within the description. The recorder is the
provider's address: it keeps each request with Steady's verdict, which the gateway does not pass on.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.surfaces.nodejs import ROOT, install_modules

SPEC = ROOT / "tests" / "spec" / "openai-openapi.json.gz"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A request that reached the provider, and what Steady said of it."""

    path: str
    headers: dict[str, str]
    body: Any
    status: int
    valid: bool
    complaints: dict[str, str]


class Steady:
    """`steady` as a process."""

    def __init__(self, folder: Path) -> None:
        spec = folder / "openapi.json"
        spec.write_bytes(gzip.decompress(SPEC.read_bytes()))
        with socket.socket() as probe:  # it does not tell which port it took for 0
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        command = install_modules() / "node_modules" / ".bin" / "steady"
        options = ["--host", "127.0.0.1", "-q", "--no-color", "--stream-interval=1", "--stream-count=3"]
        self._process = subprocess.Popen(
            [str(command), "-p", str(self.port), *options, str(spec)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # the command is a script that starts the program
        )
        self._said: list[str] = []
        self._ready = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        if not self._ready.wait(60):
            self.stop()
            raise AssertionError("steady did not start:\n" + "".join(self._said))

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.append(line)
            if str(self.port) in line:
                self._ready.set()

    def stop(self) -> None:
        """End it with its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        self._listener.join(10)
        if self._process.stdout is not None:
            self._process.stdout.close()


class Recorder(http.server.ThreadingHTTPServer):
    """The provider's address: passes on to Steady and keeps what it says."""

    daemon_threads = True

    def __init__(self, steady_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Pass)
        self.steady_port = steady_port
        self.verdicts: list[Verdict] = []
        self.seed = 0
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def base(self) -> str:
        """Return what a provider's `base_url` should be."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    def stop(self) -> None:
        """Close the address."""
        self.shutdown()
        self.server_close()
        self._thread.join(10)


class _Pass(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        body = json.loads(raw)
        headers = {name.lower(): value for name, value in self.headers.items()}
        sent = {name: headers[name] for name in ("content-type", "authorization") if name in headers}
        if body.get("stream"):
            sent["accept"] = "text/event-stream"  # Steady goes by this header, OpenAI by the body
        steady = http.client.HTTPConnection("127.0.0.1", self.server.steady_port, timeout=30)
        steady.request(
            "POST", self.path.removeprefix("/v1"), raw, {**sent, "x-steady-seed": str(self.server.seed)}
        )
        answer = steady.getresponse()
        content = answer.read()
        steady.close()
        said = {name.lower(): value for name, value in answer.getheaders()}
        self.server.verdicts.append(
            Verdict(
                self.path, headers, body, answer.status, said.get("x-steady-request-valid") == "true",
                {name: value for name, value in said.items() if name.startswith("x-steady-error-")},
            )
        )  # fmt: skip
        # Steady ends a stream in its own way.
        content = content.replace(b"event: done\ndata: {}\n\n", b"data: [DONE]\n\n")
        self.send_response(answer.status)
        self.send_header("content-type", said["content-type"])
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
