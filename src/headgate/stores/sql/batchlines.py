"""The lines of batches in SQL: who runs which, and what came of it. In the thread of `batches`.

Who finds nothing to do has only read: he does not wait for who writes, nor keep him waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.stores.sql import batchmoney, doubts
from headgate.stores.sql.bootstrap import writing
from headgate.wire.batches import unanswered
from headgate.wire.batchjobs import (
    ANSWERED,
    FAILED,
    RUNNING,
    WAITING,
    Claim,
    KeptBatch,
    NewLine,
    Result,
    left_of,
    line_id,
)

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from headgate.stores.sql.connection import Connection
    from headgate.values import WallMicros
    from headgate.wire.batchjobs import Finished, Place, Returned, Room

PAGE_BYTES: Final = 8 << 20  # of outputs that are read in one go
_ADD: Final = (
    "INSERT INTO batch_lines (batch, n, at, size, custom_id, start, bound) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_CLAIM: Final = (
    f"UPDATE batch_lines SET state = {RUNNING}, slot = ?, epoch = ?, until = ?, call = ?, fence = fence + 1"
    " WHERE batch = ? AND n = ?"
    " RETURNING n, at, size, custom_id, start, bound, call, fence, tries, paid, unsure, output"
)
_RUNNING_NOW: Final = (
    "SELECT l.slot, count(*) FROM batches b JOIN batch_lines l ON l.batch = b.n"
    " JOIN slots s ON s.slot = l.slot"
    " WHERE b.status IN ('validating', 'in_progress', 'cancelling', 'finalizing')"  # as their index has it
    f" AND b.model = (SELECT model FROM batches WHERE n = ?) AND l.state = {RUNNING}"
    " AND s.epoch = l.epoch AND s.pid <> 0 AND s.seen_at > ? GROUP BY l.slot"
)
_DONE: Final = (
    "UPDATE batch_lines SET state = ?, seq = ?, output = ?, paid = ? WHERE batch = ? AND n = ?"
    f" AND fence = ? AND state = {RUNNING} RETURNING unsure"
)
_SUMS: Final = (
    "UPDATE batches SET completed = completed + ?, failed = failed + ?, input = input + ?,"
    " output = output + ?, cached = cached + ?, reasoning = reasoning + ?, charge = charge + ? WHERE n = ?"
)


def add(sql: Connection, batch: KeptBatch, lines: Sequence[NewLine], *, first: bool) -> bool:
    """Keep lines of a batch that is being read; the first ones replace what there is. False: fenced."""
    with writing(sql):
        owned = sql.execute(
            "SELECT 1 FROM batches WHERE n = ? AND fence = ? AND status = 'validating'",
            (batch.n, batch.fence),
        ).fetchone()
        if owned is None:
            return False
        if first:
            forget(sql, batch.n)
        sql.executemany(_ADD, ((batch.n, *line) for line in lines))
    return True


def keep_answers(sql: Connection, batch: KeptBatch, answers: Sequence[tuple[int, bytes]]) -> bool:
    """Keep what a provider has answered to lines that wait. False: fenced."""
    with writing(sql):
        owned = sql.execute(
            "SELECT 1 FROM batches WHERE n = ? AND fence = ? AND status IN ('in_progress', 'cancelling')",
            (batch.n, batch.fence),
        ).fetchone()
        if owned is None:
            return False
        sql.executemany(
            f"UPDATE batch_lines SET output = ? WHERE batch = ? AND n = ? AND state = {WAITING}",
            ((answer, batch.n, line) for line, answer in answers),
        )
    return True


def without_answers(sql: Connection, n: int) -> None:
    """Forget what was noted of lines that wait; in a transaction of the caller."""
    sql.execute(f"UPDATE batch_lines SET output = NULL WHERE batch = ? AND n > 0 AND state = {WAITING}", (n,))


def forget(sql: Connection, n: int) -> None:
    """Remove the lines of a batch, but no doubts; in a transaction of the caller."""
    sql.execute("DELETE FROM batch_lines WHERE batch = ? AND n > 0", (n,))


def claim(
    sql: Connection,
    n: int,
    place: Place,
    room: Room,
    now: WallMicros,
    until: WallMicros,
) -> list[Claim]:
    """Take waiting lines of a batch, up to one for each id of a call.

    Those that their provider has answered wait with that answer where their output will be: they are taken
    also when the batch is cancelled or its time is over, since they were run.
    """
    if not _due(sql, n, place, now, 1) or _share(sql, n, place, room, now) < 1:
        return []
    with writing(sql):
        lines = _due(sql, n, place, now, _share(sql, n, place, room, now))
        rows = [
            sql.execute(_CLAIM, (*place, until, call, n, line)).fetchone()
            for line, call in zip(lines, room.calls, strict=False)
        ]
    return [_claimed(row) for row in rows]


def _due(sql: Connection, n: int, place: Place, now: WallMicros, most: int) -> list[int]:
    """Return up to so many lines of a batch that a worker may take now."""
    served = sql.execute(
        "SELECT CASE WHEN batches.status = 'in_progress' AND batches.expires_at > ? THEN 1 ELSE 0 END"
        " FROM slots, batches WHERE slots.slot = ? AND slots.epoch = ? AND batches.n = ?"
        " AND batches.status IN ('in_progress', 'cancelling')",
        (now, *place, n),
    ).fetchone()
    if served is None:
        return []
    which = "" if served[0] else " AND output IS NOT NULL"
    found = sql.execute(
        f"SELECT n FROM batch_lines WHERE batch = ? AND state = {WAITING} AND due <= ?{which}"
        " ORDER BY n LIMIT ?",
        (n, now, most),
    )
    return [line for (line,) in found.fetchall()]


def _share(sql: Connection, n: int, place: Place, room: Room, now: WallMicros) -> int:
    """Return how many lines of a batch's model a worker may take now, of what all have room for together.

    Those that run lines have equal parts; where there is somebody else who could, one place is left for him
    to begin with. Who has been silent for too long has none.
    """
    heard = now - room.silent_us
    lines: dict[str, int] = dict(sql.execute(_RUNNING_NOW, (n, heard)).fetchall())
    mine = lines.pop(place.slot, 0)
    others = sql.execute(
        "SELECT 1 FROM slots WHERE pid <> 0 AND seen_at > ? AND slot <> ? LIMIT 1", (heard, place.slot)
    ).fetchone()
    most = room.most if others is None or not mine else max(1, room.most - 1)
    part = -(-room.most // (len(lines) + 1))
    return max(0, min(len(room.calls), most - mine - sum(lines.values()), part - mine))


def _claimed(row: Sequence[Any]) -> Claim:
    claimed = Claim._make(row)
    answer = None if claimed.answer is None else bytes(claimed.answer)
    return claimed._replace(call=bytes(claimed.call), unsure=bool(claimed.unsure), answer=answer)


def finish(sql: Connection, batch: KeptBatch, done: Sequence[Finished]) -> None:
    """Keep outputs and give back what of their money was not used; what is fenced changes nothing."""
    told = _Told(sql, batch)
    with writing(sql):
        told.begin()
        for line in done:
            told.add(line)
        told.write()


class _Told:
    """What one transaction adds up of the lines that are done."""

    def __init__(self, sql: Connection, batch: KeptBatch) -> None:
        self._sql = sql
        self._batch = batch
        self._seq = 0
        self._sums = [0] * 7
        self._back: dict[int, int] = {}

    def begin(self) -> None:
        """Learn how many lines are done."""
        (self._seq,) = self._sql.execute(
            "SELECT coalesce(max(seq), 0) FROM batch_lines WHERE batch = ? AND seq > 0", (self._batch.n,)
        ).fetchone()

    def add(self, line: Finished) -> None:
        """Keep the output of a line that ran, unless somebody else has it now."""
        state, n = (ANSWERED if line.answered else FAILED), self._batch.n
        row = self._sql.execute(
            _DONE, (state, self._seq + 1, line.output, line.charge, n, line.n, line.fence)
        ).fetchone()
        if row is None:
            return
        used = line.usage
        counts = (int(line.answered), int(not line.answered), used.input_tokens, used.output_tokens)
        self._count((*counts, used.cached_tokens, used.reasoning_tokens, line.charge))
        if not row[0]:  # else what it holds is for a call of which nobody knows
            self._free(line.back)

    def close(self, row: Sequence[Any], code: str) -> None:
        """Give a line that waits an error as its output."""
        n, custom_id, start, bound, paid, unsure = row
        batch = self._batch
        output = unanswered(line_id(batch.job, n), custom_id, code)
        self._sql.execute(
            f"UPDATE batch_lines SET state = {FAILED}, seq = ?, output = ? WHERE batch = ? AND n = ?",
            (self._seq + 1, output, batch.n, n),
        )
        self._count((0, 1, 0, 0, 0, 0, paid))
        if not unsure:
            self._free(left_of(batch.job, start, bound, paid))

    def _count(self, counts: Sequence[int]) -> None:
        self._seq += 1
        self._sums = [a + b for a, b in zip(self._sums, counts, strict=True)]

    def _free(self, amounts: Sequence[tuple[int, int]]) -> None:
        for pot, amount in amounts:
            self._back[pot] = self._back.get(pot, 0) + amount

    def write(self) -> None:
        """Write the sums."""
        self._sql.execute(_SUMS, (*self._sums, self._batch.n))
        batchmoney.give_back(self._sql, self._batch.slot, self._back)


def give_back(sql: Connection, n: int, lines: Sequence[Returned]) -> None:
    """Let lines be tried again."""
    with writing(sql):
        sql.executemany(
            f"UPDATE batch_lines SET state = {WAITING}, due = ?, paid = ?, tries = tries + ? WHERE batch = ?"
            f" AND n = ? AND fence = ? AND state = {RUNNING}",
            ((line.due, line.paid, int(line.tried), n, line.n, line.fence) for line in lines),
        )


def renew(sql: Connection, place: Place, calls: Set[bytes], until: WallMicros) -> None:
    """Keep the lines that a worker has, by their calls; any other that it had claimed waits again.

    Of those none was run: the answer to their claim was lost, or nobody was left to hear it.
    """
    if not _of(sql, place):
        return
    with writing(sql):
        lost = [(batch, n) for batch, n, call in _of(sql, place) if bytes(call) not in calls]
        sql.executemany(
            f"UPDATE batch_lines SET state = {WAITING}, due = 0 WHERE batch = ? AND n = ?"
            f" AND state = {RUNNING}",
            lost,
        )
        sql.execute(
            f"UPDATE batch_lines SET until = ? WHERE state = {RUNNING} AND slot = ? AND epoch = ?",
            (until, *place),
        )


def _of(sql: Connection, place: Place) -> list[tuple[int, int, bytes]]:
    running = f"SELECT batch, n, call FROM batch_lines WHERE state = {RUNNING} AND slot = ? AND epoch = ?"
    return sql.execute(running, place).fetchall()


def any_left(sql: Connection, n: int) -> bool:
    """Say whether a line of a batch waits or runs."""
    left = f"SELECT 1 FROM batch_lines WHERE batch = ? AND state <= {RUNNING} LIMIT 1"
    return sql.execute(left, (n,)).fetchone() is not None


def take_over(sql: Connection, now: WallMicros) -> int:
    """Let the lines of workers that are no more be tried again; return how many.

    Of a worker whose slot was left, or has begun anew, the journal is in the books. Of another one it is not
    known whether it has charged the line, or will: then the line is free from now on, and its money is kept
    until that is known. A run that was free already was charged nothing.
    """
    if not _left_behind(sql, now):
        return 0
    with writing(sql):
        rows = _left_behind(sql, now)
        for batch, n, call, free, known in rows:
            charge = batchmoney.booked(sql, bytes(call)) if known else 0
            doubtful = not (known or free)
            if doubtful:
                doubts.keep(sql, batch, n)
            sql.execute(
                f"UPDATE batch_lines SET state = {WAITING}, due = 0, paid = paid + ?, unsure = unsure | ?,"
                " fence = fence + 1 WHERE batch = ? AND n = ?",
                (charge, int(doubtful), batch, n),
            )
    return len(rows)


def _left_behind(sql: Connection, now: WallMicros) -> list[tuple[int, int, bytes, int, int]]:
    """Return the lines of workers that are no more: batch, line, call, if it was free, if it is known."""
    gone = "(slots.pid = 0 OR slots.epoch > batch_lines.epoch)"
    return sql.execute(
        f"SELECT batch, n, call, paid > 0 OR unsure > 0, CASE WHEN {gone} THEN 1 ELSE 0 END FROM batch_lines"
        " LEFT JOIN slots ON slots.slot = batch_lines.slot"
        f" WHERE state = {RUNNING} AND ({gone} OR until < ?)",
        (now,),
    ).fetchall()


def close_waiting(sql: Connection, batch: KeptBatch, code: str, most: int) -> int:
    """Give up to so many waiting lines an error as their output; return how many. Not what is answered."""
    told = _Told(sql, batch)
    if not _unanswered(sql, batch.n, 1):
        return 0
    with writing(sql):
        told.begin()
        rows = _unanswered(sql, batch.n, most)
        for row in rows:
            told.close(row, code)
        told.write()
        if rows and code == "batch_expired":
            _note_late(sql, batch)
    return len(rows)


def _unanswered(sql: Connection, n: int, most: int) -> list[tuple[Any, ...]]:
    return sql.execute(
        "SELECT n, custom_id, start, bound, paid, unsure FROM batch_lines WHERE batch = ?"
        f" AND state = {WAITING} AND output IS NULL ORDER BY n LIMIT ?",
        (n, most),
    ).fetchall()


def _note_late(sql: Connection, batch: KeptBatch) -> None:
    job = msgspec.structs.replace(batch.job, late=True)
    sql.execute(
        "UPDATE batches SET job = ? WHERE n = ? AND status = 'in_progress'",
        (msgspec.json.encode(job).decode(), batch.n),
    )


def results(sql: Connection, n: int, after: int, limit: int) -> list[Result]:
    """Return outputs that came behind another: up to so many, and no more than fit into memory well."""
    last = _last_of_page(sql, "seq", "batch = ? AND seq > ?", (n, max(0, after)), limit)
    rows = sql.execute(
        "SELECT seq, state, output FROM batch_lines WHERE batch = ? AND seq > ? AND seq <= ? ORDER BY seq",
        (n, max(0, after), last),
    ).fetchall()
    return [Result(seq, state == ANSWERED, bytes(output)) for seq, state, output in rows]


def outputs(sql: Connection, n: int, after: int, most: int, *, answered: bool) -> list[tuple[int, bytes]]:
    """Return outputs behind a line, by lines of the input: the line and its output; as many as `results`."""
    which, given = "batch = ? AND state = ? AND n > ?", (n, ANSWERED if answered else FAILED, after)
    last = _last_of_page(sql, "n", which, given, most)
    rows = sql.execute(
        f"SELECT n, output FROM batch_lines WHERE {which} AND n <= ? ORDER BY n", (*given, last)
    ).fetchall()
    return [(line, bytes(output)) for line, output in rows]


def _last_of_page(sql: Connection, order: str, which: str, given: tuple[int, ...], most: int) -> int:
    """Return the last line of a page: a request for embeddings may well have 50 MB of answer."""
    rows = sql.execute(
        f"SELECT {order}, length(output) FROM batch_lines WHERE {which} ORDER BY {order} LIMIT ?",
        (*given, most),
    )
    last = size = 0
    for number, length in rows.fetchall():
        size += length
        if last and size > PAGE_BYTES:
            break
        last = number
    return last
