"""What the kernel says: CPU time and memory of process trees, and how quiet the machine was."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROC = Path("/proc")
TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
OTHERS_LIMIT = 0.05
STEAL_LIMIT = 0.01


@dataclass(frozen=True, slots=True)
class Layout:
    """Which core runs what; equal cores mean that the machine has only one."""

    gateway: int
    load: int

    @property
    def separate(self) -> bool:
        """Say whether the gateway has a core without the generator."""
        return self.gateway != self.load


def choose_layout() -> Layout:
    """Give the gateway the last usable core and the rest of the bench the first."""
    cores = sorted(os.sched_getaffinity(0))
    return Layout(gateway=cores[-1], load=cores[0])


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Let every process started inside inherit one core, then take the old cores back."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(root: int) -> list[int]:
    """List a process and all its living descendants."""
    found = [root]
    for pid in found:
        found.extend(_children(pid))
    return found


def _children(pid: int) -> list[int]:
    """List the children that any thread of a process has started."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        for task in (PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                children += map(int, (task / "children").read_text().split())
    return children


def tree_cpu_s(root: int) -> float:
    """Sum user and system time over a process tree, reaped children included."""
    return sum(_process_cpu_s(pid) for pid in tree(root))


def tree_rss_mb(root: int) -> float:
    """Sum the resident memory of a process tree in 10^6 bytes."""
    page = os.sysconf("SC_PAGE_SIZE")
    pages = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            pages += int((PROC / str(pid) / "statm").read_text().split()[1])
    return pages * page / 1e6


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; empty when it has ended."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _process_cpu_s(pid: int) -> float:
    """Return the CPU time of one process.

    schedstat counts in nanoseconds but forgets threads that have ended; stat keeps those and
    truncates to ticks of 10 ms. The larger of the two is the better one.
    """
    fields = _stat(pid)
    if not fields:
        return 0.0
    whole = (int(fields[11]) + int(fields[12])) * TICK_S
    reaped = (int(fields[13]) + int(fields[14])) * TICK_S
    running_ns = 0
    with contextlib.suppress(OSError):
        for task in (PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                running_ns += int((task / "schedstat").read_text().split()[0])
    return max(running_ns / 1e9, whole) + reaped


@dataclass(frozen=True, slots=True)
class Core:
    """Time that one core has spent since the boot, in seconds."""

    busy: float
    steal: float


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one moment."""

    at: float
    trees: Mapping[str, float]
    cores: Mapping[int, Core]
    own: float
    generator: float


@dataclass(frozen=True, slots=True)
class Window:
    """What happened between two readings; CPU in seconds, shares of one core in 0..1."""

    seconds: float
    cpu: Mapping[str, float]
    generator: float
    others: float
    steal: float

    @property
    def quiet(self) -> bool:
        """Say whether a figure from this window may be published without a mark."""
        return self.others <= OTHERS_LIMIT and self.steal <= STEAL_LIMIT


def read(pids: Mapping[str, int]) -> Reading:
    """Read the counters of the machine and of each named process tree."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Reading(
        at=time.monotonic(),
        trees={name: tree_cpu_s(pid) for name, pid in pids.items()},
        cores=_cores(),
        own=time.process_time(),
        generator=children.ru_utime + children.ru_stime,
    )


def between(a: Reading, b: Reading, layout: Layout, on_load: frozenset[str]) -> Window:
    """Compare two readings; the trees named in `on_load` run on the generator's core."""
    seconds = b.at - a.at
    cpu = {name: max(0.0, b.trees[name] - a.trees[name]) for name in a.trees if name in b.trees}
    generator = b.generator - a.generator
    ours = {layout.gateway: 0.0, layout.load: 0.0}
    ours[layout.load] += generator + (b.own - a.own)
    for name, used in cpu.items():
        ours[layout.load if name in on_load else layout.gateway] += used
    others = [(b.cores[core].busy - a.cores[core].busy - used) / seconds for core, used in ours.items()]
    steal = [(b.cores[core].steal - a.cores[core].steal) / seconds for core in ours]
    return Window(seconds, cpu, generator, max(0.0, *others), max(steal))


def _cores() -> dict[int, Core]:
    cores: dict[int, Core] = {}
    for line in (PROC / "stat").read_text().splitlines():
        name, *values = line.split()
        if name.startswith("cpu") and name[3:].isdigit():
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, values[:8])
            busy = (user + nice + system + irq + softirq) * TICK_S
            cores[int(name[3:])] = Core(busy, steal * TICK_S)
    return cores
