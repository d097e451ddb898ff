"""Prove the books: recompute everything from calls and prices, in code of its own.

Nothing here is shared with what writes the books, so that a fault there cannot hide here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from headgate.stores.interim.journal import segments
from headgate.stores.interim.recovery import replay
from headgate.stores.sql.database import connect

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from headgate.values import WallMicros

_OVERDUE_US = 650_000_000  # the longest call and a minute
_MOST = 50


class Finding(NamedTuple):
    """One thing that is wrong."""

    kind: str
    detail: str


class Result(NamedTuple):
    """What a check saw."""

    calls: int
    entries: int
    findings: list[Finding]


def check(data: Path, now: WallMicros) -> Result:
    """Check SQL and the journals of a data folder."""
    open_calls, settled = _journals(data)
    sql = connect(data, read_only=True)
    try:
        sql.execute("BEGIN")
        findings = [
            *_sequence(sql),
            *_costs(sql),
            *_entries(sql),
            *_balances(sql),
            *_hours(sql),
            *_holds(sql, open_calls, settled, now),
            *_checkpoints(sql, data),
        ]
        (calls,) = sql.execute("SELECT count(*) FROM calls").fetchone()
        (entries,) = sql.execute("SELECT count(*) FROM entries").fetchone()
    finally:
        sql.close()
    return Result(calls, entries, findings)


def _journals(data: Path) -> tuple[dict[bytes, WallMicros], set[bytes]]:
    open_calls: dict[bytes, WallMicros] = {}
    settled: set[bytes] = set()
    for folder in sorted((data / "journal").glob("slot-*")):
        state = replay(folder)
        open_calls.update({call: opened.at for call, opened in state.open.items()})
        settled |= {opened.call for opened, _, _ in state.settled}
    return open_calls, settled


def _sequence(sql: sqlite3.Connection) -> list[Finding]:
    """A call that was dropped leaves a gap."""
    findings = []
    rows = sql.execute(
        "SELECT book, count(*), min(seq), max(seq), count(DISTINCT seq) FROM calls GROUP BY book"
    )
    for book, count, low, high, distinct in rows.fetchall():
        said = sql.execute("SELECT value FROM meta WHERE name = ?", (f"seq:{book}",)).fetchone()
        last = int(said[0]) if said else 0
        if not (low == 1 and high == count == distinct == last):
            findings.append(
                Finding(
                    "sequence", f"book {book}: {count} calls, numbered {low} to {high}, {last} were written"
                )
            )
    return findings


def _price(prices: list[object], usage: tuple[int, ...]) -> int:
    """Return the nano-USD of a usage by a row of prices, in this module's own arithmetic."""
    given, made, cached, cache_write, reasoning, audio_in, audio_out = usage
    *unit, fee, above, long = prices
    if above and given > above and isinstance(long, list):
        return _price(long, usage)
    per_in, per_out, per_cached, per_write, per_reasoning, per_audio_in, per_audio_out = map(int, unit)  # type: ignore[call-overload]
    total = int(fee)  # type: ignore[call-overload]
    rest = given
    for tokens, each in ((cached, per_cached), (cache_write, per_write), (audio_in, per_audio_in)):
        part = min(tokens, rest)
        total += part * each
        rest -= part
    total += rest * per_in
    rest = made
    for tokens, each in ((reasoning, per_reasoning), (audio_out, per_audio_out)):
        part = min(tokens, rest)
        total += part * each
        rest -= part
    total += rest * per_out
    return -(-total // 1000)


def _costs(sql: sqlite3.Connection) -> list[Finding]:
    """Every charge is what its usage costs, at most the hold; the rest was absorbed."""
    rows = dict(sql.execute("SELECT id, prices FROM price_rows").fetchall())
    prices = {key: json.loads(text) for key, text in rows.items()}
    findings: list[Finding] = []
    columns = (
        "call, input, output, cached, cache_write, reasoning, input_audio, output_audio, prices, hold, charge,"
        " absorbed, flags"
    )
    for row in sql.execute(f"SELECT {columns} FROM calls"):
        call, usage, (price, hold, charge, absorbed, flags) = row[0], row[1:8], row[8:]
        name = "req_" + call.hex()
        if price and price not in prices:
            findings.append(Finding("price row", f"{name}: its price row {price} is not there"))
            continue
        if charge > hold:
            findings.append(Finding("hold", f"{name}: charged {charge} above its hold {hold}"))
        if flags & 8:
            continue  # booked by a recovery, by its mark or its hold
        due = _price(prices[price], usage) if price else 0
        if charge + absorbed != due or charge != min(due, hold):
            findings.append(
                Finding("amount", f"{name}: {charge} charged and {absorbed} absorbed, its usage costs {due}")
            )
        if len(findings) >= _MOST:
            break
    return findings


def _entries(sql: sqlite3.Connection) -> list[Finding]:
    """Each call has its entries, of its amounts, and no entry stands alone."""
    findings = []
    questions = {
        "settlement": (1, "charge"),
        "provider cost": (2, "cost"),
        "absorbed": (3, "absorbed"),
    }
    for title, (kind, column) in questions.items():
        rows = sql.execute(
            f"SELECT c.call, c.{column}, coalesce(sum(e.amount), 0), count(e.call) FROM calls c"
            " LEFT JOIN entries e ON e.call = c.call AND e.kind = ?"
            f" GROUP BY c.call HAVING c.{column} != coalesce(sum(e.amount), 0)"
            " OR (count(e.call) > 1 AND ? != 2) LIMIT ?",
            (kind, kind, _MOST),
        )
        findings += [
            Finding("entry", f"req_{call.hex()}: {title} {due}, booked {booked} in {count} entries")
            for call, due, booked, count in rows
        ]
    rows = sql.execute(
        "SELECT call FROM entries WHERE call NOT IN (SELECT call FROM calls) LIMIT ?", (_MOST,)
    )
    findings += [Finding("entry", f"req_{call.hex()}: an entry without its call") for (call,) in rows]
    return findings


def _balances(sql: sqlite3.Connection) -> list[Finding]:
    """Each stored balance is the sum of its entries, and both sides are equal in each book."""
    rows = sql.execute(
        "SELECT a.code, coalesce(b.debits, 0), coalesce(b.credits, 0),"
        " (SELECT coalesce(sum(amount), 0) FROM entries WHERE debit = a.id),"
        " (SELECT coalesce(sum(amount), 0) FROM entries WHERE credit = a.id)"
        " FROM ledger_accounts a LEFT JOIN balances b ON b.ledger_account = a.id"
    )
    return [
        Finding("balance", f"{code}: stored {debits}/{credits}, its entries sum to {in_sum}/{out_sum}")
        for code, debits, credits, in_sum, out_sum in rows
        if (debits, credits) != (in_sum, out_sum)
    ]


def _hours(sql: sqlite3.Connection) -> list[Finding]:
    """The roll-ups are the sums of the calls."""
    key = "opened_at / 3600000000, book, account, project, key, model, provider"
    rows = sql.execute(
        f"SELECT * FROM (SELECT {key}, count(*), sum(input), sum(output), sum(charge), sum(cost) FROM calls GROUP BY"
        f" {key} EXCEPT SELECT hour, book, account, project, key, model, provider, calls, input, output, charge,"
        " cost FROM usage_hours) UNION ALL SELECT * FROM (SELECT hour, book, account, project, key, model, provider,"
        " calls, input, output, charge, cost FROM usage_hours EXCEPT"
        f" SELECT {key}, count(*), sum(input), sum(output), sum(charge), sum(cost) FROM calls GROUP BY {key}) LIMIT ?",
        (_MOST,),
    )
    return [
        Finding("roll-up", f"hour {row[0]}, key {row[4]}, model {row[5]}: not the sum of its calls")
        for row in rows
    ]


def _holds(
    sql: sqlite3.Connection, open_calls: dict[bytes, WallMicros], settled: set[bytes], now: WallMicros
) -> list[Finding]:
    """No call stays open beyond the longest deadline."""
    late = [call for call, at in open_calls.items() if now - at > _OVERDUE_US and call not in settled]
    return [
        Finding("hold", f"req_{call.hex()}: open since {open_calls[call]} and never settled")
        for call in late[:_MOST]
        if sql.execute("SELECT 1 FROM calls WHERE call = ?", (call,)).fetchone() is None
    ]


def _checkpoints(sql: sqlite3.Connection, data: Path) -> list[Finding]:
    """No journal is shorter than what was copied from it, and none has a hole."""
    findings = []
    for slot, segment, offset in sql.execute("SELECT slot, segment, offset FROM drains").fetchall():
        found = dict(segments(data / "journal" / slot))
        if segment in found:
            end = replay_end(found[segment])
            if end < offset:
                findings.append(
                    Finding(
                        "journal",
                        f"{slot}: segment {segment} ends at {end}, {offset} bytes were copied from it",
                    )
                )
        elif found and min(found) > segment + 1:
            findings.append(Finding("journal", f"{slot}: segments {segment} to {min(found) - 1} are missing"))
    return findings


def replay_end(path: Path) -> int:
    """Return where the last good record of a segment ends."""
    from headgate.stores.interim.journal import read

    end = 0
    for _, end in read(path):
        pass
    return end
