"""Pots and slices in SQL: made, lowered, cleared. Every function runs inside a transaction of its caller.

What is spent from a pot moves in `ledger`, with the calls that spend it; who may spend it, in `leases`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from headgate.money.periods import FOREVER
from headgate.money.pots import Pot, PotName
from headgate.stores.sql.database import spent
from headgate.values import Book

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headgate.stores.sql.connection import Connection
    from headgate.values import NanoUSD, WallMicros

LOST: Final = "lost"  # the slot of slices that may have been spent in a journal that cannot be read
GONE: Final = "gone"  # the kind of a pot whose budget was removed
LESS: Final = "UPDATE slices SET amount = max(0, amount - ?) WHERE pot = ? AND slot = ?"
_AT_ONCE: Final = 64  # pots of one question
_ROWS: Final = (
    "SELECT p.id, p.kind, p.ref, p.period, p.since, p.until, p.amount, p.over, p.spent, p.recall,"
    " s.slot, s.amount, s.answered FROM pots p LEFT JOIN slices s ON s.pot = p.id WHERE "
)
_NAMED: Final = "(p.kind = ? AND p.ref = ? AND p.period = ?)"
_OUT = "spent + (SELECT CAST(coalesce(sum(amount), 0) AS BIGINT) FROM slices WHERE pot = pots.id)"
SETTLED: Final = f"UPDATE pots SET over = max(0, {_OUT} - amount) WHERE id = ? AND over > 0"


def find(sql: Connection, name: PotName) -> Pot | None:
    """Return a pot with its slices; a budget's is made where it is missing. None: there is no such thing."""
    return find_all(sql, (name,))[name]


def find_all(sql: Connection, names: Iterable[PotName]) -> dict[PotName, Pot | None]:
    """Return pots with their slices as `find` does, each by its name."""
    wanted = list(dict.fromkeys(names))
    found = _named(sql, wanted)
    made = [name for name in wanted if name[:3] not in found and name.kind == "budget" and make(sql, name)]
    found |= _named(sql, made)
    return {name: found.get(name[:3]) for name in wanted}


def by_ids(sql: Connection, numbers: Iterable[int]) -> list[Pot]:
    """Return the pots that there are of some numbers, with their slices."""
    return _read(sql, "p.id = ?", [(number,) for number in numbers])


def _named(sql: Connection, names: Sequence[PotName]) -> dict[tuple[str, int, str], Pot]:
    found = _read(sql, _NAMED, [name[:3] for name in names])
    return {pot.name[:3]: pot for pot in found}


def _read(sql: Connection, which: str, values: Sequence[tuple[Any, ...]]) -> list[Pot]:
    """Return the pots for which a condition holds with any of some values; by few texts: each is prepared."""
    found: dict[int, Pot] = {}
    for start in range(0, len(values), _AT_ONCE):
        part = list(values[start : start + _AT_ONCE])
        part += part[-1:] * ((1 << (len(part) - 1).bit_length()) - len(part))
        rows = sql.execute(_ROWS + " OR ".join([which] * len(part)), [each for row in part for each in row])
        for row in rows:
            pot = found.get(row[0])
            if pot is None:
                pot = found[row[0]] = Pot(PotName._make(row[1:6]), row[0], row[6:10], {})
            if row[10] is not None:
                pot.slices[row[10]] = row[11:13]
    return list(found.values())


def make(sql: Connection, name: PotName) -> bool:
    """Make the pot of a budget in one period, with what the books say; False: there is no such budget."""
    row = sql.execute("SELECT scope, ref, book, amount FROM budgets WHERE id = ?", (name.ref,)).fetchone()
    if row is None:
        return False
    scope, ref, book, amount = row
    used = spent(sql, scope, ref, Book(book), name.since)
    if name.until < FOREVER:
        used -= spent(sql, scope, ref, Book(book), name.until)
    sql.execute(
        "INSERT INTO pots (kind, ref, period, book, since, until, amount, spent, over)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*name[:3], book, name.since, name.until, amount, used, max(0, used - amount)),
    )
    return True


def next_recall(sql: Connection) -> int:
    """Return the number of a new recall."""
    (last,) = sql.execute("SELECT max(recall) FROM pots WHERE recall > 0").fetchone()
    return int(last or 0) + 1


def resize(sql: Connection, kind: str, ref: int, amount: NanoUSD) -> None:
    """Set what may be spent of every pot of a budget; ask the workers for what is out above that.

    That it grew, they learn by the change that its caller notes.
    """
    sql.execute(
        f"UPDATE pots SET amount = ?, over = max(0, {_OUT} - ?) WHERE kind = ? AND ref = ?",
        (amount, amount, kind, ref),
    )
    sql.execute(
        "UPDATE pots SET recall = ? WHERE kind = ? AND ref = ? AND over > 0", (next_recall(sql), kind, ref)
    )


def remove(sql: Connection, ref: int) -> None:
    """Take the pots of a budget that is removed out of use: its id may be given again, theirs are not.

    They stay until the next start, since workers may have slices of them.
    """
    sql.execute("UPDATE pots SET kind = ?, ref = id WHERE kind = 'budget' AND ref = ?", (GONE, ref))


def settle_down(sql: Connection, pot: int) -> None:
    """Lower `over` to what is still out above the amount."""
    sql.execute(SETTLED, (pot,))


def excuse(sql: Connection, pot: int) -> None:
    """Note what is out above the amount by calls that opened before the pot was there, and recall it."""
    sql.execute(
        f"UPDATE pots SET over = {_OUT} - amount, recall = ? WHERE id = ? AND {_OUT} > amount + over",
        (next_recall(sql), pot),
    )


def clear(sql: Connection, slot: str, *, lost: bool = False) -> None:
    """Give back what a dead worker had, now that its journal is in the books.

    Args:
        sql: in a transaction.
        slot: of the worker.
        lost: a part of its journal could not be read: what it had may be spent, so nobody gets it.
    """
    if lost:
        sql.execute(
            "INSERT INTO slices (pot, slot, amount) SELECT pot, ?, amount FROM slices WHERE slot = ?"
            " AND amount > 0 ON CONFLICT (pot, slot) DO UPDATE SET amount = slices.amount + excluded.amount",
            (LOST, slot),
        )
    pots = [pot for (pot,) in sql.execute("SELECT pot FROM slices WHERE slot = ?", (slot,))]
    sql.execute("DELETE FROM slices WHERE slot = ?", (slot,))
    sql.execute("UPDATE slots SET pid = 0 WHERE slot = ?", (slot,))
    for pot in pots:
        settle_down(sql, pot)


def all_read(sql: Connection) -> bool:
    """Say whether every journal is in the books: no worker lives, or has died and not started anew since."""
    return sql.execute("SELECT 1 FROM slots WHERE pid <> 0 LIMIT 1").fetchone() is None


def sweep(sql: Connection) -> None:
    """Remove the pots of budgets that nobody has a slice of, where no worker lives: they can come again."""
    if not all_read(sql):
        return
    sql.execute(
        "DELETE FROM pots WHERE kind IN ('budget', ?)"
        " AND NOT EXISTS (SELECT 1 FROM slices WHERE pot = pots.id)",
        (GONE,),
    )


def prune(sql: Connection, before: WallMicros) -> int:
    """Remove the pots of periods that ended before an instant and are in nobody's hands; return how many.

    What was lost with a journal is in nobody's. The one with the last recall stays, since recalls are
    numbered from it.
    """
    sql.execute(
        "DELETE FROM slices WHERE (amount = 0 OR slot = ?) AND pot IN (SELECT id FROM pots WHERE until <= ?)",
        (LOST, before),
    )
    return sql.execute(
        "DELETE FROM pots WHERE until <= ? AND kind IN ('budget', ?)"
        " AND NOT EXISTS (SELECT 1 FROM slices WHERE pot = pots.id)"
        " AND (recall = 0 OR recall < (SELECT max(recall) FROM pots))",
        (before, GONE),
    ).rowcount
