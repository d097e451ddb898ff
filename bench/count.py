"""Count what a governed JSON call takes: bytecodes and Python calls, by function. The same on any machine.

    make bench-count             400 calls on 8 connections
    make bench-count ARGS=2000
    make bench-count ARGS="300 --redis redis://127.0.0.1/15"
    make bench-count ARGS="300 --postgres postgresql://root@127.0.0.1"

CPU on a shared machine is noise; this is not. What runs by the clock (ticks, leases, words with a store) is
shown apart: functions that not every call enters. Under the tracer fewer calls share it. What a process
does when it is late, as it is there, is left out. A call from Python to C counts as one bytecode, so it is
a proxy.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fresh
import servers
from load import Generator, Load, wait_for
from machine import choose_layout
from session import DIRECT, FULL, HEADGATE, Session, Target

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from load import Outcome

_TOP, _TOP_RARE, _OUT = 30, 15, "counted.json"
_EACH = 0.95  # of the calls enter what every call enters
_SLOWER = 60  # so many times under the tracer
_ROUNDS_SLOWER = 20  # a store takes a worker for dead that is silent for 5 s
_DRAIN_S = 1.0  # until what was called is in the books


def serve() -> None:
    """Be `headgate` under a tracer that SIGUSR1 starts and SIGUSR2 ends."""
    loop = threading.get_ident()
    calls: Counter[tuple[bool, CodeType]] = Counter()
    codes: Counter[tuple[bool, CodeType]] = Counter()
    counting = False

    def inside(frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "opcode":
            codes[threading.get_ident() == loop, frame.f_code] += 1
        return inside

    def entered(frame: FrameType, _event: str, _arg: Any) -> Any:
        if not counting:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        calls[threading.get_ident() == loop, frame.f_code] += 1
        return inside

    def begin(*_: object) -> None:
        nonlocal counting
        counting = True
        sys.settrace(entered)

    def end(*_: object) -> None:
        nonlocal counting
        counting = False
        sys.settrace(None)
        rows = [(key[0], named(key[1]), count, codes[key]) for key, count in calls.items()]
        new = Path(_OUT + ".new")
        new.write_text(json.dumps(rows))
        new.replace(_OUT)

    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)
    threading.settrace(entered)
    serve_in_time()


def serve_in_time() -> None:
    """Be `headgate` that never notices to be late: nobody waits in its lobby, passes and rounds last."""
    from headgate.__main__ import main
    from headgate.admission import passes, sharing
    from headgate.admission.shedding import CALM_S, Shedder

    def calm(shedder: Shedder, *_: float) -> float:
        shedder.active = False
        return CALM_S

    Shedder.tick = calm  # type: ignore[method-assign]
    passes.LASTS_NS *= _SLOWER  # type: ignore[misc]
    sharing.EVERY_S *= _ROUNDS_SLOWER  # type: ignore[misc]
    main()


def named(code: CodeType) -> str:
    """Return where a function is, and its name."""
    return f"{code.co_filename.rpartition('/headgate/')[2]}:{code.co_qualname}"


def report(rows: list[tuple[bool, str, int, int]], count: int) -> None:
    """Print what each call takes on the loop and in other threads, and what is done now and then."""
    for where, own in (("on the loop", True), ("in other threads", False)):
        found = [(codes / count, n / count, name) for here, name, n, codes in rows if here is own]
        each = sorted((row for row in found if row[1] >= _EACH), reverse=True)
        rare = sorted((row for row in found if row[1] < _EACH), reverse=True)
        for when, some, most in (("", each, _TOP), (", now and then", rare, _TOP_RARE)):
            codes, n = (sum(row[at] for row in some) for at in (0, 1))
            print(f"{where}{when}: {codes:.0f} bytecodes, {n:.0f} calls")
            for codes, n, name in some[:most]:
                print(f"  {codes:7.1f} {n:6.2f}  {name}")


def call(generator: Generator, target: Target, count: int) -> Outcome:
    """Make so many calls; return when they are in the books."""
    outcome = generator.run(Load(60, most=count), target.server.port, target.key)
    time.sleep(_DRAIN_S)
    return outcome


def main() -> None:
    """Start a gateway under the tracer and put a load on it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("calls", type=int, nargs="?", default=400)
    parser.add_argument("--redis", metavar="URL", help="limits shared through this database")
    parser.add_argument("--postgres", metavar="URL", help="books in a database of its own on this server")
    options = parser.parse_args()
    storage = {"redis": options.redis} if options.redis else {}
    with contextlib.ExitStack() as made:
        if options.postgres:
            storage["database"] = made.enter_context(fresh.database(options.postgres))
        measure(options.calls, storage)


def measure(count: int, storage: dict[str, str]) -> None:
    """Count so many calls, with the books and limits where `storage` says."""
    mock_binary, lg = servers.build_tools()
    layout = choose_layout()
    with tempfile.TemporaryDirectory(dir=servers.BUILD) as temporary:
        folder = Path(temporary)
        traced = folder / "headgate"
        real = servers.HERE.parent / ".venv" / "bin"
        traced.write_text(
            f'#!/bin/sh\n[ "$1" = serve ] && exec {real}/python {__file__} "$@"\nexec {real}/headgate "$@"\n'
        )
        traced.chmod(0o755)
        session = Session(folder, layout, Generator(lg, layout.load), FULL)
        mock = servers.start_mock(mock_binary, folder, layout.load)
        session.targets[DIRECT] = Target(DIRECT, mock)
        cores = (layout.gateway, layout.load)
        session.headgate = servers.Headgate(traced, folder / "main", mock.port, cores, storage=storage)
        try:
            session.start_headgate()
            target = session.targets[HEADGATE]
            call(session.generator, target, 200)
            os.kill(target.server.pid, signal.SIGUSR1)
            outcome = call(session.generator, target, count)
            os.kill(target.server.pid, signal.SIGUSR2)
            out = session.headgate.folder / _OUT
            if not outcome.right or wait_for(out.exists, 10.0) is None:
                raise SystemExit(outcome.verdict)
            report(json.loads(out.read_text()), count)
        finally:
            for each in session.targets.values():
                each.server.kill()


if __name__ == "__main__":
    serve() if sys.argv[1:2] == ["serve"] else main()
