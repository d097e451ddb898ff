"""Check what is in SQL: every call against its prices, its entries, its hour and its number."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from headgate.stores.sql.check.arithmetic import PriceRow, nano_usd, read_row
from headgate.stores.sql.check.dropped import DroppedCheck
from headgate.stores.sql.check.findings import name_of
from headgate.stores.sql.check.grants import GrantsCheck
from headgate.stores.sql.check.pots import PotsCheck
from headgate.stores.sql.check.rows import COLUMNS, CallRow, LostRow, LostRows, call_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headgate.stores.sql.check.findings import Findings
    from headgate.stores.sql.connection import Connection

ESTIMATED, UNPRICED, RECOVERED = 1, 2, 8
SETTLEMENT, COST, ABSORBED, TOKENS = 1, 2, 3, 4
_HOUR = 3_600_000_000
_DAYS = {"usage_days_insert", "usage_days_update"}
_TRIGGERS = {
    f"{table}_keep_{deed}"
    for table in ("calls", "entries", "lost", "postings")
    for deed in ("update", "delete")
}


class BooksCheck:
    """One pass over calls and entries, side by side in the order of their ids.

    Args:
        sql: in a transaction, so that everything is of one moment.
        findings: where what is wrong goes.
    """

    def __init__(self, sql: Connection, findings: Findings) -> None:
        self._sql = sql
        self._say = findings.add
        self._prices: dict[int, PriceRow] = {}
        self._accounts: dict[int, tuple[str, int]] = {}
        self.grants = GrantsCheck(sql, findings, self._accounts)
        self.pots = PotsCheck(sql, findings)
        self.dropped = DroppedCheck(sql, findings, self._accounts)
        self._lost = LostRows(sql)
        self._names: dict[int, str] = {}
        self._numbers: dict[int, bytearray] = {}  # by book: which numbers were seen
        self._hours: dict[tuple[int, ...], list[int]] = defaultdict(lambda: [0] * 8)
        self._sums: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        self.calls = 0
        self.entries = 0

    def run(self) -> None:
        """Check everything."""
        self._read_dictionaries()
        entries = _grouped(self._sql)
        waiting = next(entries, None)
        for row in self._sql.scan(f"SELECT {COLUMNS} FROM calls ORDER BY call"):
            call = call_row(row)
            while waiting is not None and waiting[0] < call.call:
                self._stray(waiting)
                waiting = next(entries, None)
            own: list[tuple[Any, ...]] = []
            if waiting is not None and waiting[0] == call.call:
                own = waiting[1]
                waiting = next(entries, None)
            self._check_call(call, own)
        while waiting is not None:
            self._stray(waiting)
            waiting = next(entries, None)
        self._check_numbers()
        self.dropped.finish(self._lost.finish())
        for hour in self.dropped.hours:
            self._add_sums(hour[:7], hour[7:15])
            self.pots.add_dropped(hour)
        self.grants.finish()
        self.pots.finish()
        self._check_balances()
        self._check_hours()
        self._check_schema()

    def _read_dictionaries(self) -> None:
        for key, text in self._sql.execute("SELECT id, prices FROM price_rows"):
            row = read_row(text)
            if row is None:
                self._say("price row", f"price row {key} cannot be read: {text[:80]}")
            else:
                self._prices[key] = row
        self._accounts |= {
            key: (code, book) for key, code, book in self._sql.execute("SELECT * FROM ledger_accounts")
        }
        self._names = dict(self._sql.execute("SELECT id, name FROM names").fetchall())
        self._numbers = {book: bytearray(last + 1) for book, last in self._sql.execute("SELECT * FROM books")}

    # ── one call ─────────────────────────────────────────────────────────────────────────────────

    def _check_call(self, call: CallRow, own: list[tuple[Any, ...]]) -> None:
        self.calls += 1
        self._check_number(call)
        if min(call.charge, call.absorbed, call.cost, call.hold, call.tokens.least) < 0:
            self._say("amount", f"{name_of(call.call)}: a negative amount")
        if call.charge > call.hold:
            self._say("hold", f"{name_of(call.call)}: charged {call.charge} above its hold {call.hold}")
        self.check_money(call, self._price(call, call.prices), own)
        self._check_entries(call, own)
        self._check_costs(call, own)
        self._add_hour(call)
        self.pots.add(call)

    def _check_number(self, call: CallRow) -> None:
        seen = self._numbers.get(call.book, b"")
        if not 0 < call.seq < len(seen):
            self._say("sequence", f"{name_of(call.call)}: its number {call.seq} was never given")
        elif seen[call.seq]:
            self._say("sequence", f"{name_of(call.call)}: its number {call.seq} is given twice")
        else:
            self._numbers[call.book][call.seq] = 1

    def _price(self, call: CallRow, key: int) -> PriceRow | None:
        if key and key not in self._prices:
            self._say("price row", f"{name_of(call.call)}: its price row {key} is not there")
        return self._prices.get(key)

    def check_money(
        self,
        call: CallRow,
        prices: PriceRow | None,
        own: list[tuple[Any, ...]],
    ) -> None:
        """Compare what a call was charged with what its usage comes to."""
        due = nano_usd(call.tokens, prices) if prices is not None else 0
        promoted = self.grants.promoted(own)
        booked = (call.charge + promoted, call.absorbed)
        allowed = {(min(due, call.hold), max(0, due - call.hold))}
        if call.flags & RECOVERED:  # by its last mark or its hold, or the hold at the house's expense
            allowed = {(min(due, call.hold), 0), (0, min(due, call.hold))}
        if prices is None:
            allowed = {(0, 0)}
        if booked not in allowed:
            self._say(
                "amount",
                f"{name_of(call.call)}: {call.charge} charged, {promoted} promoted and {call.absorbed} "
                f"absorbed, its usage costs {due} of a hold of {call.hold}",
            )
        if call.flags & RECOVERED and not call.flags & ESTIMATED:
            self._say("amount", f"{name_of(call.call)}: recovered and not marked as estimated")

    def _check_costs(self, call: CallRow, own: list[tuple[Any, ...]]) -> None:
        """Compare what each attempt cost us, and whom we owe it, with what it used."""
        used = {call.attempt: LostRow(call.attempt, call.provider, call.tokens, call.costs)}
        used |= {row.attempt: row for row in self._lost.of(call.call)}
        due = {}
        for attempt, row in used.items():
            costs = self._price(call, row.costs)
            amount = nano_usd(row.tokens, costs) if costs is not None else 0
            if amount:
                due[attempt] = (f"payable:{self._names.get(row.provider, '')}", amount)
        booked = {
            attempt: (self._accounts.get(credited, ("nobody", -1))[0], amount)
            for _, kind, attempt, _, _, _, credited, amount in own
            if kind == COST
        }
        if booked != due:
            self._say("provider cost", f"{name_of(call.call)}: by attempt {booked} are booked, {due} due")

    def _check_entries(self, call: CallRow, own: list[tuple[Any, ...]]) -> None:
        """Compare a call's entries with its amounts: who paid, one excess, one cost per attempt."""
        provider = self._names.get(call.provider, "")
        due = {
            ABSORBED: (call.absorbed, "house:absorbed", "revenue"),
            COST: (call.cost, "cost", f"payable:{provider}"),
        }
        paid = [entry for entry in own if entry[1] in {SETTLEMENT, TOKENS}]
        self.grants.check_paid(call, paid)
        self._add_up(paid)
        for kind, (amount, debit, credit) in due.items():
            found = [entry for entry in own if entry[1] == kind]
            booked = sum(entry[7] for entry in found)
            if booked != amount or (kind != COST and len(found) != (amount > 0)):
                self._say(
                    "entry",
                    f"{name_of(call.call)}: {amount} due as {debit} to {credit}, "
                    f"{booked} booked in {len(found)} entries",
                )
            for entry in found:
                self._check_entry(call, entry, debit, credit)
            self._add_up(found)
        if len(own) != len(paid) + sum(entry[1] in due for entry in own):
            self._say("entry", f"{name_of(call.call)}: an entry of an unknown kind")

    def _add_up(self, found: list[tuple[Any, ...]]) -> None:
        for *_, debited, credited, amount in found:
            self.entries += 1
            self._sums[debited][0] += amount
            self._sums[credited][1] += amount

    def _check_entry(self, call: CallRow, entry: tuple[Any, ...], debit: str, credit: str) -> None:
        _, kind, attempt, number, book, debited, credited, amount = entry
        sides = (self._accounts.get(debited), self._accounts.get(credited))
        right = sides == ((debit, call.book), (credit, call.book))
        if kind == COST and attempt != call.attempt:  # an earlier attempt had a provider of its own
            right = sides[0] == (debit, call.book) and sides[1] is not None and sides[1][1] == call.book
        if not right or book != call.book or number != 0 or amount <= 0:
            self._say("entry", f"{name_of(call.call)}: an entry of kind {kind} has wrong accounts: {sides}")

    def _stray(self, group: tuple[bytes, list[tuple[Any, ...]]]) -> None:
        """Entries that belong to no call are a posting's, of a call that was dropped, or nobody's."""
        self._add_up(group[1])
        if self.grants.take_posting(*group):
            return
        if self.dropped.take(*group):
            self.grants.take_dropped(group[1])
        else:
            self._say("entry", f"{name_of(group[0])}: {len(group[1])} entries without their call")

    def _add_hour(self, call: CallRow) -> None:
        key = (
            call.opened_at // _HOUR, call.book, call.account, call.project, call.key, call.model,
            call.provider,
        )  # fmt: skip
        parts = (
            1, int(call.status >= 400), call.flags & ESTIMATED, call.tokens.input, call.tokens.output,
            call.tokens.cached, call.charge, call.cost,
        )  # fmt: skip
        self._add_sums(key, parts)

    def _add_sums(self, key: tuple[int, ...], parts: Sequence[int]) -> None:
        sums = self._hours[key]
        for index, part in enumerate(parts):
            sums[index] += part

    # ── sums ─────────────────────────────────────────────────────────────────────────────────────

    def _check_numbers(self) -> None:
        """A call that is missing leaves a gap, where retention did not drop it."""
        self.dropped.check_numbers(self._numbers)
        for book, seen in self._numbers.items():
            missing = seen.count(0, 1)
            if missing:
                first = seen.index(0, 1)
                self._say(
                    "sequence", f"book {book}: {missing} calls are missing, the first is number {first}"
                )

    def _check_balances(self) -> None:
        """Each stored balance is the sum of its entries; in each book both sides are equal."""
        stored = {key: (a, b) for key, a, b in self._sql.execute("SELECT * FROM balances")}
        for key in stored.keys() | self._sums.keys():
            due = tuple(self._sums[key])
            if stored.get(key, (0, 0)) != due:
                code, book = self._accounts.get(key, (f"account {key}", -1))
                self._say(
                    "balance", f"{code} of book {book}: stored {stored.get(key)}, its entries sum to {due}"
                )

    def _check_hours(self) -> None:
        """Each roll-up, of an hour or of a day, is the sum of its calls."""
        days: dict[tuple[int, ...], list[int]] = defaultdict(lambda: [0] * 8)
        for (hour, *rest), sums in self._hours.items():
            key = (hour // 24, *rest)
            days[key] = [a + b for a, b in zip(days[key], sums, strict=True)]
        for unit, due in (("hour", self._hours), ("day", days)):
            rows = self._sql.execute(f"SELECT * FROM usage_{unit}s")
            stored = {tuple(row[:7]): list(row[7:]) for row in rows}
            for key in stored.keys() | due.keys():
                if stored.get(key, [0] * 8) != due[key]:
                    self._say(
                        "roll-up",
                        f"{unit} {key[0]}, book {key[1]}, key {key[4]}: stored {stored.get(key)}, "
                        f"its calls sum to {due[key]}",
                    )

    def _check_schema(self) -> None:
        there = self._sql.triggers()
        for name in sorted(_TRIGGERS - there):
            self._say("schema", f"the trigger {name} is missing: the books can be changed")
        for name in sorted(_DAYS - there):
            self._say("schema", f"the trigger {name} is missing: sums of days are not kept")
        for said in self._sql.damage():
            self._say("database", said)


def _grouped(sql: Connection) -> Iterator[tuple[bytes, list[tuple[Any, ...]]]]:
    rows = sql.scan(
        "SELECT call, kind, attempt, n, book, debit, credit, amount FROM entries"
        " ORDER BY call, kind, attempt, n"
    )
    for call, group in groupby(rows, key=lambda row: row[0]):
        yield call, list(group)
