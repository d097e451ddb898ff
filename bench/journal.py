"""The lane with its own data folder: what draining costs, and a start with a full journal.

The write lock of the SQLite books is held from outside while calls are served, so everything stays
in the journal. Released, the CPU until it is empty is the cost of draining; killed instead, the next
start finds it full.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING

import books
import servers
from lanes import Figures, figure
from load import Load
from session import HEADGATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session import Session, Target

LOAD_LIMIT_S = 60.0
FULL_JOURNAL = 100_000


def journal(session: Session) -> Figures:
    """Draining per call, and the start after a kill with a full journal."""
    headgate = session.headgate
    if headgate is None:
        return {}
    folder, sent = headgate, books.Sent()
    outer, session.sent = session.sent, sent
    session.headgate = headgate.elsewhere("journal")
    figures: Figures = {}
    try:
        key, _ = session.start_headgate()
        figures |= _draining(session)
        figures |= _after_kill(session, key)
        session.stop_headgate()
        for wrong in books.compare(session.headgate, sent):
            session.fail(f"journal: {wrong}")
    finally:
        left = session.targets.pop(HEADGATE, None)
        if left is not None:
            left.server.kill()
        session.headgate, session.sent = folder, outer
    return figures


def _draining(session: Session) -> Figures:
    target = session.targets[HEADGATE]
    session.at_rest(target)
    with _held_back(session) as held:
        served = _serve(session, target, session.plan.journal_calls // 2)
        records = servers.metrics(target.server.port).get(servers.UNDRAINED, -1.0)
        before = session.read()
    after = session.at_rest(target)
    window = session.between(before, after)
    if not held or records <= 0 or not served:
        session.note("draining could not be held back, so its cost is not separable here")
        return {}
    spent = window.cpu[HEADGATE] / served * 1e6
    return {
        "headgate.drain_us": figure([spent], noisy=not window.quiet),
        "headgate.drained_records": figure([records]),
    }


def _after_kill(session: Session, key: str) -> Figures:
    target = session.targets[HEADGATE]
    headgate = session.headgate
    if headgate is None:
        return {}
    with _held_back(session):
        _serve(session, target, session.plan.journal_calls)
        records = servers.metrics(target.server.port).get(servers.UNDRAINED, -1.0)
        target.server.kill()
    del session.targets[HEADGATE]
    if records < FULL_JOURNAL and not session.plan.quick:
        session.note(f"the killed journal held {records:.0f} records, {FULL_JOURNAL} were wanted")
    began = time.monotonic()
    _, took = session.start_headgate(key)
    session.at_rest(session.targets[HEADGATE])
    return {
        "headgate.start_seconds": figure([took]),
        "headgate.start_records": figure([records]),
        "headgate.caught_up_seconds": figure([time.monotonic() - began]),
    }


@contextlib.contextmanager
def _held_back(session: Session) -> Iterator[bool]:
    """Keep the books from being written, if they let us; yield whether they do."""
    headgate = session.headgate
    databases = books.find_databases(headgate.data) if headgate else []
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(books.locked(databases))
        except sqlite3.OperationalError as failure:
            session.note(f"the books could not be locked: {failure}")
            databases = []
        yield bool(databases)


def _serve(session: Session, target: Target, calls: int) -> int:
    load = Load(LOAD_LIMIT_S, conns=8, most=calls)
    outcome = session.generator.run(load, target.server.port, target.key)
    session.upstream_calls += outcome.sent
    session.sent.json += outcome.sent
    if not outcome.right:
        session.fail(f"headgate, its database locked: {outcome.verdict}")
    return outcome.sent
