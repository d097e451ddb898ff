"""Random histories of credit on real SQLite, beside a model that is a table of numbers."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.stores.books import copy_all, make
from tests.stores.grants import DAY, Credit, Offered, ended, spent_by_calls
from tests.stores.records import CLOCK, START, opened

from headgate.money.credit import Need, cover, in_tokens, taken
from headgate.ports import Open
from headgate.stores.journal import JournalSettings, SlotJournal
from headgate.stores.sql.check import check
from headgate.stores.sql.postings import expire, free, owed
from headgate.stores.sql.pots import LESS

WORKER = "slot-0"  # who holds what is open


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        CLOCK.now = START
        self.data = make(Path(tempfile.mkdtemp()))
        self.credit = Credit(self.data)
        self.sql = self.credit.sql
        self.journal = SlotJournal(self.data / "journal" / "slot-0", CLOCK, JournalSettings())
        self.given: dict[int, int] = {}  # the model, by grant
        self.spent: dict[int, int] = {}
        self.until: dict[int, int] = {}
        self.closed: dict[int, int] = {}  # what expired
        self.debt = 0
        self.holds: list[Open] = []

    def teardown(self) -> None:
        try:
            for record in self.holds:
                self.journal.settle(ended(record))
            copy_all(self.data)
            assert check(self.data, CLOCK.wall()).findings == []
        finally:
            self.journal.close()
            self.credit.close()
            shutil.rmtree(self.data)

    def newest(self) -> int:
        return int(self.sql.execute("SELECT max(id) FROM grants").fetchone()[0])

    def balance(self) -> int | None:
        row = self.sql.execute("SELECT id FROM grants WHERE kind = 'balance'").fetchone()
        return None if row is None else int(row[0])

    def held(self, grant: int) -> int:
        return sum(
            source.tokens or source.amount
            for record in self.holds
            for source in record.sources
            if source.grant == grant
        )

    # ── what happens ─────────────────────────────────────────────────────────────────────────────

    @rule(amount=st.integers(1, 400_000), days=st.integers(0, 4))
    def gift(self, amount: int, days: int) -> None:
        expires_at = CLOCK.wall() + days * DAY if days else 0
        self.credit.give(amount, expires_at=expires_at)
        self.given[self.newest()], self.until[self.newest()] = amount, expires_at

    @rule(tokens=st.integers(100, 2_000), model=st.sampled_from(["gpt-4o-mini", "gpt-*", "claude-*"]))
    def gift_of_tokens(self, tokens: int, model: str) -> None:
        self.credit.give(tokens, model=model, expires_at=CLOCK.wall() + DAY)
        self.given[self.newest()], self.until[self.newest()] = tokens, CLOCK.wall() + DAY

    @rule(amount=st.integers(1, 400_000))
    def top_up(self, amount: int) -> None:
        self.credit.top_up(amount)
        back = min(self.debt, amount)
        self.debt -= back
        grant = self.balance()
        assert grant is not None
        self.given[grant] = self.given.get(grant, 0) + amount - back
        self.until[grant] = 0

    @precondition(lambda self: self.balance() is not None)
    @rule(amount=st.integers(1, 400_000))
    def refund(self, amount: int) -> None:
        grant = self.balance()
        assert grant is not None
        taken = min(amount, free(self.sql, grant))
        self.credit.take(taken, debt=amount - taken)
        self.given[grant] -= taken
        self.debt += amount - taken

    @rule(hold=st.integers(1, 500_000))
    def open(self, hold: int) -> None:
        offers = [Offered(*offer[:4], offer.free - self.held(offer.grant)) for offer in self.credit.offers()]
        sources = cover(offers, Need("gpt-4o-mini", hold, 600), CLOCK.wall())
        if sources is None:
            return
        for source in sources:
            assert not self.until[source.grant] or CLOCK.wall() < self.until[source.grant]
            self.sql.execute(
                "INSERT INTO slices VALUES (?, ?, ?, 0) ON CONFLICT DO UPDATE SET amount = amount + excluded.amount",
                (source.pot, WORKER, source.tokens or source.amount),
            )
        record = opened(hold=hold, sources=sources)
        self.journal.open(record)
        self.holds.append(record)

    @precondition(lambda self: self.holds)
    @rule(which=st.integers(0, 99), given=st.integers(0, 400), made=st.integers(0, 900))
    def settle(self, which: int, given: int, made: int) -> None:
        record = self.holds.pop(which % len(self.holds))
        end = ended(record, given, made)
        self.journal.settle(end)
        copy_all(self.data)
        drawn = {part.source.pot: part.amount for part in taken(record.sources, end.charge, end.tokens)}
        for source in record.sources:  # what was charged the drain has taken from the slice
            rest = (source.tokens or source.amount) - drawn.get(source.pot, 0)
            self.sql.execute(LESS, (rest, source.pot, WORKER))
        if in_tokens(record.sources):
            grant = record.sources[0].grant
            self.spent[grant] = self.spent.get(grant, 0) + min(given + made, record.sources[0].tokens)
            return
        rest = end.charge
        for source in record.sources:
            part = min(rest, source.amount)
            self.spent[source.grant] = self.spent.get(source.grant, 0) + part
            rest -= part
        assert not rest

    @rule(hours=st.integers(1, 40))
    def wait(self, hours: int) -> None:
        CLOCK.move(hours * 3600)

    @rule()
    def book_expiry(self) -> None:
        due = {
            grant
            for grant, until in self.until.items()
            if until and until <= CLOCK.wall() and grant not in self.closed and not self.held(grant)
        }
        assert expire(self.sql, CLOCK.wall()) == len(due)
        for grant in due:
            self.closed[grant] = self.given[grant] - self.spent.get(grant, 0)

    # ── what is always so ────────────────────────────────────────────────────────────────────────

    @invariant()
    def the_entries_sum_to_the_balances(self) -> None:
        for grant, given in self.given.items():
            left = given - self.spent.get(grant, 0) - self.closed.get(grant, 0)
            assert left >= self.held(grant) >= 0
            assert self._balance(grant) == left
            assert spent_by_calls(self.sql, grant) == self.spent.get(grant, 0)
        assert owed(self.sql, 1, 0) == self.debt
        sums = self.sql.execute("SELECT sum(debits), sum(credits) FROM balances").fetchone()
        assert sums[0] == sums[1]

    def _balance(self, grant: int) -> int:
        row = self.sql.execute(
            "SELECT b.credits - b.debits FROM balances b JOIN ledger_accounts a ON a.id = b.ledger_account"
            " WHERE a.code IN (?, ?)",
            (f"grant:{grant}", f"tokens:{grant}"),
        ).fetchone()
        return int(row[0]) if row else 0


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
