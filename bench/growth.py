"""How the books grow: calls written by the ledger's own code, the bytes that each takes, the time of reports.

`make growth ARGS="--calls 3250000"` is about 10,000,000 rows; `--postgres postgresql://root@127.0.0.1` writes
them to a database of its own on that server. Calls are drawn from a seed: 90 days, 40 keys
of 8 projects, each with three of 24 models, at 6 providers. Everything is in a data folder of its own, which
is removed afterwards unless `--data` names one.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import fresh

from headgate.identity.keys import mint_key
from headgate.ports import Open, Settle
from headgate.records import BucketOrder, UsageOrder
from headgate.stores.journal.cursor import Settled
from headgate.stores.journal.segments import Position
from headgate.stores.sql.bootstrap import prepare, writing
from headgate.stores.sql.database import Database, connect
from headgate.stores.sql.ledger import Books
from headgate.stores.sql.reports import SqlReports
from headgate.values import Book, Prices, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.stores.sql.connection import Connection
    from headgate.stores.sql.database import Place

END = 1_790_035_200_000_000  # 2026-09-22 00:00 UTC
HOUR, DAY = 3_600_000_000, 86_400_000_000
DAYS, KEYS, PROJECTS, MODELS, PROVIDERS = 90, 40, 8, 24, 6
BATCH = 2_000  # calls in one transaction of the drain, when it is behind
GOAL_BYTES, GOAL_MS = 600, 300


def drawn(calls: int, seed: int) -> Iterator[Settled]:
    """Yield calls in the order of their time."""
    chance = random.Random(seed)
    prices = [Prices(10_000 * (i + 1), 40_000 * (i + 1), 0, 0, 40_000, 0, 0) for i in range(MODELS)]
    for number in range(calls):
        at = END - DAYS * DAY + DAYS * DAY * number // calls
        key = int(KEYS * chance.random() ** 2)
        model = (7 * key + int(3 * chance.random() ** 2)) % MODELS  # a program knows three models
        call = (at // 1000).to_bytes(6) + b"\x70" + number.to_bytes(4) + chance.randbytes(5)
        input_tokens, output_tokens = chance.randint(20, 4_000), chance.randint(5, 1_200)
        charge = input_tokens * prices[model].input + output_tokens * prices[model].output
        charge = -(-charge // 1000)  # rounded up once
        price, name, provider = prices[model], f"model-{model}", f"provider-{model % PROVIDERS}"
        opened = Open(
            call, 0, at, Book.REAL, 1, 1 + key % PROJECTS, 1 + key, 0, "chat", name, provider, name,
            price, price, 3 * charge, 4_000, b"", model % 2 == 0,
        )  # fmt: skip
        usage = Usage(input_tokens, output_tokens)
        took_us = chance.randint(300_000, 20_000_000)
        settled = Settle(
            call, 0, at + took_us, 200, usage, charge, 0, (charge,), False, took_us // 8, took_us
        )
        yield Settled([opened], settled)


def write(place: Place, calls: int, seed: int) -> float:
    """Book the calls; return the seconds that it took, their making apart."""
    took = 0.0
    with closing(connect(place)) as sql:
        books, coming = Books(sql), drawn(calls, seed)
        while batch := list(itertools.islice(coming, BATCH)):
            make_months(sql, batch)
            began = time.perf_counter()
            assert books.post(batch, "slot-0", Position(1, 0)) == len(batch)
            took += time.perf_counter() - began
    return took


def make_months(sql: Connection, batch: list[Settled]) -> None:
    """Make the tables of the months that calls are in, which servers do before they come."""
    if sql.months is not None:
        with writing(sql):
            sql.months.cover(item.settle.call for item in batch)


def sizes(place: Place) -> tuple[int, dict[str, int]]:
    """Return the bytes of the database, and the rows of each table of the books."""
    with closing(connect(place, wait="patient")) as sql:
        tables = ("calls", "entries", "usage_hours", "usage_days")
        rows = {name: sql.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}
        if isinstance(place, Database):
            sql.execute("VACUUM ANALYZE")  # which the server does by itself, a little later
            return sql.execute("SELECT pg_database_size(current_database())").fetchone()[0], rows
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        pages, size = (sql.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return pages * size, rows


def questions(place: Place) -> dict[str, Callable[[], object]]:
    """Return what a dashboard and a person ask."""
    reports = SqlReports(place)
    week, cut = END - 7 * DAY, END - 30 * DAY + HOUR // 3
    return {
        "usage --by model, everything": lambda: reports.sums(UsageOrder(by="model", book=Book.REAL)),
        "usage --by key, everything": lambda: reports.sums(UsageOrder(by="key", book=Book.REAL)),
        "usage --by day, 30 days, the first hour cut": lambda: reports.sums(
            UsageOrder(by="day", book=Book.REAL, since=cut, until=END)
        ),
        "buckets of a day by model, 30 days": lambda: reports.buckets(
            BucketOrder(
                by="", book=Book.REAL, since=END - 30 * DAY, until=END, width_us=DAY, groups=("model",)
            )
        ),
        "buckets of an hour, 7 days": lambda: reports.buckets(
            BucketOrder(book=Book.REAL, since=week, until=END, width_us=HOUR)
        ),
    }


def p95_ms(ask: Callable[[], object], times: int) -> float:
    """Return how long an answer takes at most, of 20 in 19 times."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        took.append(1000 * (time.perf_counter() - began))
    return sorted(took)[min(times - 1, int(0.95 * times))]


def main(arguments: list[str] | None = None) -> int:
    """Print the figures; return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="bench/growth.py", description=__doc__)
    parser.add_argument("--calls", type=int, default=250_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--asked", type=int, default=20, help="times that each report is asked for")
    parser.add_argument("--data", type=Path, help="an empty folder, kept; else one that is removed")
    parser.add_argument("--postgres", metavar="URL", help="books in a database of its own on this server")
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as made:
        folder = options.data or Path(
            made.enter_context(tempfile.TemporaryDirectory(prefix="headgate-growth-"))
        )
        if not options.postgres:
            return report(folder, options)
        return report(Database(folder, made.enter_context(fresh.database(options.postgres))), options)


def report(place: Place, options: argparse.Namespace) -> int:
    """Write the calls, and say what they take."""
    prepare(place, END - (DAYS + 1) * DAY, mint_key)
    empty, _ = sizes(place)
    took = write(place, options.calls, options.seed)
    size, rows = sizes(place)
    each = (size - empty) / options.calls
    total = sum(rows.values())
    sums = f"{rows['usage_hours']:,} sums of an hour, {rows['usage_days']:,} of a day"
    parts = f"{rows['entries']:,} entries, {sums}"
    print(f"{options.calls:,} calls: {parts}; {total:,} rows in all")
    print(f"written in {took:.0f} s, {1e6 * took / options.calls:.1f} µs a call")
    print(f"{size / 2**20:.0f} MB, {each:.0f} bytes a call (goal: {GOAL_BYTES})")
    slowest = 0.0
    for name, ask in questions(place).items():
        took_ms = p95_ms(ask, options.asked)
        slowest = max(slowest, took_ms)
        print(f"{took_ms:8.0f} ms at p95  {name}", flush=True)
    met = each <= GOAL_BYTES and slowest <= GOAL_MS
    print("goals: met" if met else f"goals: MISSED ({each:.0f} bytes a call, {slowest:.0f} ms)")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
