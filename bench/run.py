"""Measure Headgate beside a direct call and nginx, in one interleaved run on this machine.

The exit status says whether every answer and the books were right; a missed speed goal is reported
and is no failure.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import books
import fresh
import machine
import origin
import report
import sampling
import servers
from journal import journal
from lanes import LANES, Figures, run_lane, start_up
from load import Generator
from session import DIRECT, FULL, HEADGATE, NGINX, QUICK, Session, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from servers import Server

NO_NGINX = (
    "nginx IS NOT INSTALLED: its lane is left out, and no goal that is relative to it is judged.\n"
    "  Debian, Ubuntu: apt-get update && apt-get install nginx-light"
)
OWN_LANES = ("start", "journal")  # these start gateways of their own
ELSEWHERE = frozenset({"journal"})  # works with a second data folder, which would need a second database


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = servers.OWN
    lanes = (*LANES, *OWN_LANES)
    parser.add_argument("--quick", action="store_true", help="under a minute; for smoke only")
    parser.add_argument("--lane", action="append", choices=lanes, help="only this lane; repeatable")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="sample with py-spy instead")
    parser.add_argument("--profile-stream", action="store_true", help="profile streams, not JSON")
    parser.add_argument("--no-headgate", action="store_true", help="direct and nginx only")
    parser.add_argument("--headgate", type=Path, default=default, help="the command to measure")
    parser.add_argument("--postgres", metavar="URL", help="books in a database of its own on this server")
    parser.add_argument("--redis", metavar="URL", help="limits and events there")
    parser.add_argument("--keep", action="store_true", help="keep data folders and logs")
    return parser.parse_args(argv)


def start_references(session: Session, mock_binary: Path) -> list[Server]:
    """Start the mock upstream and nginx as targets; return them."""
    layout = session.layout
    mock = servers.start_mock(mock_binary, session.folder, layout.load)
    session.targets[DIRECT] = Target(DIRECT, mock)
    nginx = servers.find_nginx()
    if nginx is None:
        print(NO_NGINX, file=sys.stderr)
        session.notes.append("nginx is not installed; its lane was left out")
        return [mock]
    try:
        proxy = servers.start_nginx(nginx, mock.port, session.folder / "nginx", layout.gateway)
    except servers.Unusable as failure:
        session.note(f"NO NGINX LANE: {failure}")
        return [mock]
    session.targets[NGINX] = Target(NGINX, proxy)
    return [mock, proxy]


def prepare_headgate(session: Session, binary: Path, storage: Mapping[str, str]) -> None:
    """Start Headgate; where it cannot be measured record why, and measure the others."""
    cores = (session.layout.gateway, session.layout.load)
    upstream = session.targets[DIRECT].server.port
    session.headgate = servers.Headgate(binary, session.folder / "main", upstream, cores, storage=storage)
    try:
        _, took = session.start_headgate()
    except servers.Unusable as failure:
        session.headgate = None
        session.fail(f"HEADGATE COULD NOT BE MEASURED: {failure}")
        return
    print(f"  headgate made its data folder and was ready after {took:.2f} s")


def run_lanes(session: Session, wanted: Sequence[str]) -> Figures:
    """Run the lanes in their fixed order."""
    figures: Figures = {}
    key = session.targets[HEADGATE].key if HEADGATE in session.targets else None
    if "start" in wanted and key is not None:
        figures |= run_lane(session, "start", start_up)
        with contextlib.suppress(servers.Unusable):
            session.start_headgate(key)
    for name, lane in LANES.items():
        if name in wanted:
            figures |= run_lane(session, name, lane)
    close_books(session)
    if "journal" in wanted and session.headgate is not None:
        figures |= run_lane(session, "journal", journal)
    return figures


def close_books(session: Session) -> None:
    """Stop the gateway and compare its books with what was sent."""
    if session.headgate is None:
        return
    try:
        session.stop_headgate()
        wrong = books.compare(session.headgate, session.sent)
    except servers.Unusable as failure:
        wrong = [str(failure)]
    for text in wrong:
        session.fail(text)
    if not wrong:
        print(f"  books: {session.sent.calls} calls sent, as many booked, the check passes")


def check_upstream(session: Session) -> None:
    """Compare the upstream's own record with what was sent."""
    status, body = servers.fetch(session.targets[DIRECT].server.port, "/stats")
    if status != 200:
        session.fail("the mock upstream has died")
        return
    served = sum(json.loads(body).values())
    if served != session.upstream_calls:
        session.fail(f"the upstream served {served} calls, {session.upstream_calls} were sent")


def print_report(session: Session, figures: Figures, facts: dict[str, str]) -> None:
    """Print what was measured, how quiet it was, and what was wrong."""
    print()
    for line in report.figures_table(figures):
        print(line)
    print()
    for line in report.goals_table(figures):
        print(line)
    if session.plan.quick:
        print("A QUICK RUN: its windows are too short and its streams too few for these verdicts.")
    stall = session.worst_stall_s
    print(f"worst stall of the event loop: {'-' if stall is None else f'{stall * 1e3:.1f} ms'}")
    print()
    for name, value in facts.items():
        print(f"{name:14} {value}")
    bad = session.refused_windows
    limits = f"others > {machine.OTHERS_LIMIT:.0%} of a core or steal > {machine.STEAL_LIMIT:.0%}"
    print(f"noise gate     {len(bad)} of {session.windows} windows refused ({limits})")
    for text in bad[:5]:
        print(f"               {text}")
    for text in session.notes:
        print(f"note           {text}")
    for text in session.failures:
        print(f"FAILED         {text}")
    right = "every answer right; "
    right += "the books equal what was sent" if session.sent.calls else "no books were compared"
    print("correctness    " + ("FAILED" if session.failures else right))


def write_json(path: Path, session: Session, figures: Figures, facts: dict[str, str]) -> None:
    """Write everything that was printed to a file."""
    document = {
        "facts": facts,
        "quick": session.plan.quick,
        "figures": {name: dataclasses.asdict(found) for name, found in figures.items()},
        "goals": report.verdicts(figures),
        "worst_loop_stall_s": session.worst_stall_s,
        "calls_booked": session.sent.calls,
        "windows": session.windows,
        "refused_windows": session.refused_windows,
        "notes": session.notes,
        "failures": session.failures,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


@contextlib.contextmanager
def fleet(options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Give where a fleet keeps its books and limits; the database is made, and dropped after use."""
    storage = {"redis": options.redis} if options.redis else {}
    if not options.postgres:
        yield storage
        return
    with fresh.database(options.postgres) as url:
        yield storage | {"database": url}


def measure(
    session: Session, options: argparse.Namespace, mock_binary: Path, storage: Mapping[str, str]
) -> Figures:
    """Start everything, run what was asked for, stop everything."""
    running: list[Server] = []
    figures: Figures = {}
    try:
        running = start_references(session, mock_binary)
        if not options.no_headgate:
            prepare_headgate(session, options.headgate, storage)
        if options.profile and HEADGATE in session.targets:
            sampling.profile(session, options.profile, stream=options.profile_stream)
            close_books(session)
        elif not options.profile:
            wanted = options.lane or (*LANES, *OWN_LANES)
            figures = run_lanes(session, [each for each in wanted if not (storage and each in ELSEWHERE)])
            check_upstream(session)
    finally:
        left = session.targets.pop(HEADGATE, None)
        for server in [*([left.server] if left else []), *reversed(running)]:
            server.kill()
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return 0 when everything was correct."""
    options = arguments(argv)
    layout = machine.choose_layout()
    began = time.monotonic()
    try:
        mock_binary, lg = servers.build_tools()
    except servers.Unusable as failure:
        print(failure, file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=servers.BUILD))
    plan = QUICK if options.quick else FULL
    session = Session(folder, layout, Generator(lg, layout.load), plan)
    if not layout.separate:
        session.note("only one core: gateway and generator share it, no latency is meaningful")
    facts = origin.describe(options.headgate) | {"journal on": origin.file_system(folder)}
    facts["layout"] = f"gateway on core {layout.gateway}, mock and generator on core {layout.load}"
    try:
        with fleet(options) as storage, machine.pinned(layout.load):
            figures = measure(session, options, mock_binary, storage)
    finally:
        if options.keep:
            print(f"data and logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if not options.profile:
        print_report(session, figures, facts)
    print(f"took {time.monotonic() - began:.0f} s")
    if options.json:
        write_json(options.json, session, figures, facts)
    return 1 if session.failures else 0


if __name__ == "__main__":
    sys.exit(main())
