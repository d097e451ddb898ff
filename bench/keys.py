"""Measure how fast a server knows a million keys, and what they take of memory.

    make bench-keys            1,000,000 keys, half of them with limits and models of their own
    make bench-keys ARGS=10000

Each figure is of a process of its own that does what a worker does at its start. Exits 1 if a goal is missed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from headgate.identity.keys import Keyring, digest, mint
from headgate.stores.sql.bootstrap import prepare, writing
from headgate.stores.sql.database import changes_since, connect, last_change
from headgate.stores.sql.directory import Directory

GOAL_S, GOAL_MB = 3.0, 400.0
_NOW = 1_790_000_000_000_000
_COLUMNS = "public_id, digest, project, kind, name, shown, created_at, rpm, tpm, models"
_USED = 1000  # keys that are used for the first time


def fill(folder: Path, count: int) -> list[str]:
    """Make a data folder with so many keys; return the text of some of them."""
    pepper = prepare(folder, _NOW, None).pepper
    known = {count * n // _USED: mint("live") for n in range(min(_USED, count))}
    draw = random.Random(1)

    def rows() -> object:
        for n in range(count):
            found = digest(pepper, known[n]) if n in known else draw.randbytes(32)
            own = (60, 40_000, '["gpt-4o*","text-embedding-3-*"]') if n % 2 else (0, 0, "[]")
            shown = "sk-hg-live-ab\N{HORIZONTAL ELLIPSIS}cdef"
            yield (f"key_{n:024d}", found, 1, "live", f"customer {n}", shown, _NOW, *own)

    sql = connect(folder)
    with writing(sql):
        sql.executemany(f"INSERT INTO keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows())
    sql.close()
    return list(known.values())


def resident_mb() -> float:
    """Return what this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def load(folder: Path, tokens: list[str]) -> dict[str, float]:
    """Do what a worker does at its start, then use keys, then follow a change."""
    pepper = prepare(folder, _NOW, None).pepper
    sql = connect(folder)
    began, worked = time.perf_counter(), time.process_time()
    directory = Directory(sql)
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - worked
    memory = resident_mb()
    keyring = Keyring(pepper, directory)
    times = []
    for _ in range(2):
        began = time.perf_counter()
        for token in tokens:
            keyring.authenticate(token, _NOW)
        times.append((time.perf_counter() - began) / len(tokens) * 1e6)
    seen = last_change(sql)
    with writing(sql):
        sql.execute("UPDATE keys SET rpm = 5 WHERE id = 1")
        (ref,) = sql.execute("SELECT public_id FROM keys WHERE id = 1").fetchone()
        sql.execute("INSERT INTO changes (kind, ref, at) VALUES ('key', ?, ?)", (ref, _NOW))
    began = time.perf_counter()
    (change,) = changes_since(sql, seen)
    directory.follow([change[1:]])
    keyring = Keyring(pepper, directory)
    followed_ms = (time.perf_counter() - began) * 1e3
    if keyring.authenticate(tokens[0], _NOW).rpm != 5:
        raise SystemExit("the change was not followed")
    return {
        "load_s": took_s,
        "cpu_s": cpu_s,
        "resident_mb": memory,
        "first_use_us": times[0],
        "next_use_us": times[1],
        "follow_ms": followed_ms,
    }


def main() -> int:
    """Measure and report."""
    if len(sys.argv) == 3:
        tokens = json.loads(sys.stdin.read())
        print(json.dumps(load(Path(sys.argv[2]), tokens)))
        return 0
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "data"
        tokens = json.dumps(fill(folder, count))
        runs = []
        for _ in range(3):
            command = [sys.executable, __file__, "load", str(folder)]
            done = subprocess.run(command, input=tokens, capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout))
    best = {name: min(run[name] for run in runs) for name in runs[0]}
    print(f"{count:,} keys: loaded in {best['load_s']:.2f} s (goal {GOAL_S:g}), CPU {best['cpu_s']:.2f} s;")
    print(f"the process then takes {best['resident_mb']:.0f} MB (goal {GOAL_MB:g})")
    print(f"a key's first use {best['first_use_us']:.1f} µs, each later one {best['next_use_us']:.1f} µs")
    print(f"one changed key followed in {best['follow_ms']:.2f} ms")
    return int(best["load_s"] > GOAL_S or best["resident_mb"] > GOAL_MB)


if __name__ == "__main__":
    raise SystemExit(main())
