"""One run of the load generator: what is sent, and what came back."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from machine import pinned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

EVENTS_PER_STREAM = 42  # 40 chunks, the usage chunk, [DONE]
SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True)
class Load:
    """A load to put on a port; `rate` 0 means a closed loop."""

    seconds: float
    conns: int = 8
    rate: float = 0.0
    warm: float = 0.0
    most: int = 0
    stream: bool = False
    gap_ms: int = 0
    wait_ms: int = 0  # that the provider takes
    extra_bytes: int = 0
    status: int = 200
    model: str = ""  # the generator's own
    refusals: bool = False  # 429 and 503 with Retry-After are right, too

    def arguments(self, port: int, key: str) -> list[str]:
        """Return the generator's arguments."""
        said = ["-P", str(port), "-H", f"Authorization: Bearer {key}"]
        said += ["-c", str(self.conns), "-r", str(self.rate), "-d", str(self.seconds)]
        said += ["-w", str(self.warm), "-x", str(self.status)]
        if self.model:
            said += ["-m", self.model]
        if self.refusals:
            said.append("-R")
        if self.most:
            said += ["-n", str(self.most)]
        if self.extra_bytes:
            said += ["-B", str(self.extra_bytes)]
        if self.stream:
            said += ["-s", "-E", str(EVENTS_PER_STREAM)]
        if self.gap_ms:
            said += ["-t", f"gap{self.gap_ms}ms", "-G", str(self.gap_ms)]
        elif self.wait_ms:
            said += ["-t", f"wait{self.wait_ms}ms"]
        return said


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the generator saw. `sent` and `answered` include its warm-up."""

    raw: dict[str, Any]
    complaint: str

    @property
    def sent(self) -> int:
        """Return the requests written in full."""
        return int(self.raw["sent_total"])

    @property
    def right(self) -> bool:
        """Say whether every request had a complete and correct answer."""
        raw = self.raw
        whole = raw["answered_total"] == raw["sent_total"] > 0
        return bool(whole and not raw["bad"] and not raw["err"])

    @property
    def verdict(self) -> str:
        """Describe what was wrong in one line."""
        raw = self.raw
        counts = ", ".join(f"{k} {raw[k]}" for k in ("sent_total", "answered_total", "bad", "err"))
        return f"{counts}; {' '.join(self.complaint.split())[:300]}"

    def us(self, series: str, quantile: str) -> float:
        """Return a quantile of a latency series in microseconds."""
        return float(self.raw[f"{series}_us"][quantile])


def together_us(outcomes: Iterable[Outcome], series: str, quantile: float) -> float:
    """Return a quantile of the latencies of several runs taken together, in microseconds."""
    steps = sorted(
        (float(up_to), int(count)) for each in outcomes for up_to, count in each.raw[f"{series}_us"]["steps"]
    )
    left = quantile * sum(count for _, count in steps)
    for up_to, count in steps:
        left -= count
        if left < 0:
            return up_to
    return 0.0


class Generator:
    """Runs the load generator on its core, one run at a time."""

    def __init__(self, binary: Path, core: int) -> None:
        self._binary = binary
        self._core = core

    def run(self, load: Load, port: int, key: str, *, sample: Callable[[], object] | None = None) -> Outcome:
        """Put a load on a port; `sample` is called every 100 ms meanwhile."""
        argv = [str(self._binary), *load.arguments(port, key)]
        with pinned(self._core):
            process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        ended = threading.Event()
        sampler = threading.Thread(target=_sample_until, args=(ended, sample), daemon=True)
        if sample is not None:
            sampler.start()
        try:
            out, err = process.communicate(timeout=load.seconds + load.warm + 60)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            err = f"the generator hung and was killed; {err}"
        finally:
            ended.set()
            if sample is not None:
                sampler.join()
        return Outcome(_parse(out), err)


def _sample_until(ended: threading.Event, sample: Callable[[], object]) -> None:
    while not ended.wait(SAMPLE_S):
        sample()


def _parse(out: str) -> dict[str, Any]:
    """Read the generator's line; without one nothing was answered."""
    try:
        parsed: dict[str, Any] = json.loads(out)
    except json.JSONDecodeError:
        return {"sent_total": 0, "answered_total": 0, "ok": 0, "bad": 0, "err": 1, "rps": 0.0}
    return parsed


def wait_for(ready: Callable[[], bool], limit_s: float, pause_s: float = 0.002) -> float | None:
    """Poll until `ready` says so; return the seconds it took, or None after the limit."""
    start = time.monotonic()
    while (now := time.monotonic()) - start < limit_s:
        if ready():
            return now - start
        time.sleep(pause_s)
    return None
