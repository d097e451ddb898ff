"""Other people's stand-in for many providers: aimock (npm: @copilotkit/aimock), one process on one port.

What it speaks was checked by its makers against the providers themselves, so it knows what we may have
understood wrongly in the same way on both sides of a test of our own.
"""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.request
from pathlib import Path
from typing import Any

from tests.surfaces.nodejs import install_modules

TOKENS = {"input_tokens": 21, "output_tokens": 9}
HELLO = "Hello from the stand-in. 你好！"
CALLS = [("get_weather", {"city": "NYC"}), ("get_time", {"zone": "EST"})]
FIXTURES: list[dict[str, Any]] = [
    {"match": {"userMessage": "Say hello"}, "response": {"content": HELLO, "usage": TOKENS}},
    {"match": {"hasToolResult": True}, "response": {"content": "It is sunny."}},
    {
        "match": {"userMessage": "Weather and time in NYC?"},
        "response": {
            "toolCalls": [{"name": name, "arguments": json.dumps(given)} for name, given in CALLS],
            "usage": TOKENS,
        },
    },
    {
        "match": {"userMessage": "Be busy"},
        "response": {"error": {"message": "Too many", "type": "rate_limit_error"}, "status": 429},
    },
    {
        "match": {"userMessage": "Fail"},
        "response": {"error": {"message": "It broke", "type": "api_error"}, "status": 500},
    },
    {"match": {"inputText": "embed me"}, "response": {"embedding": [0.5, -0.25, 0.125]}},
]


class Aimock:
    """`aimock` as a process. It refuses what it has no fixture for."""

    def __init__(self, folder: Path) -> None:
        fixtures = folder / "fixtures.json"
        fixtures.write_text(json.dumps({"fixtures": FIXTURES}))
        program = install_modules() / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
        self._process = subprocess.Popen(
            ["node", str(program), "-p", "0", "-f", str(fixtures), "--strict", "--log-level", "info"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if "listening on" in line:
                break
        else:
            raise AssertionError("aimock did not start:\n" + "".join(said))
        self.base = said[-1].rsplit(" ", 1)[1].strip()
        # What it says later must go somewhere, or it waits for the pipe.
        self._listener = threading.Thread(target=self._process.stdout.read)
        self._listener.start()

    def asked(self) -> list[dict[str, Any]]:
        """Return every request that it had so far."""
        with urllib.request.urlopen(self.base + "/__aimock/journal?limit=1000", timeout=20) as answer:
            return list(json.load(answer))

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(20)
        self._listener.join(20)
        if self._process.stdout is not None:
            self._process.stdout.close()
