"""Check who paid for each call, and that no grant gave more, longer or otherwise than it was given."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from headgate.stores.sql.check.findings import name_of
from headgate.stores.sql.check.postings import PostingsCheck

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headgate.ports import Settle, Source
    from headgate.stores.sql.check.findings import Findings
    from headgate.stores.sql.check.rows import CallRow
    from headgate.stores.sql.connection import Connection

SETTLEMENT, TOKENS = 1, 4
_REVENUE: Final = "revenue"


class GrantRow(NamedTuple):
    """A grant as it stands in SQL."""

    id: int
    name: str
    account: int
    book: int
    kind: str
    model: str
    tokens: int
    expires_at: int
    closed_at: int


class GrantsCheck:
    """What the calls take from grants, and what postings put there.

    Args:
        sql: in a transaction.
        findings: where what is wrong goes.
        accounts: the ledger's accounts, code and book by id; filled before the first call is checked.
    """

    def __init__(self, sql: Connection, findings: Findings, accounts: Mapping[int, tuple[str, int]]) -> None:
        self._sql = sql
        self._say = findings.add
        self._accounts = accounts
        self._grants = {
            row[0]: GrantRow._make(row)
            for row in sql.execute(
                "SELECT id, public_id, account, book, kind, model, tokens, expires_at, closed_at FROM grants"
            )
        }
        self._spent: dict[int, int] = defaultdict(int)  # by grant: nano-USD, or tokens
        self._postings = PostingsCheck(sql, findings, accounts)

    # ── calls ────────────────────────────────────────────────────────────────────────────────────

    def promoted(self, own: Sequence[tuple[Any, ...]]) -> int:
        """Return what the house paid of a call in place of its customer."""
        return sum(entry[7] for entry in own if entry[1] == SETTLEMENT and self._debit(entry) == "promotion")

    def _debit(self, entry: tuple[Any, ...]) -> str:
        return self._accounts.get(entry[5], ("", -1))[0]

    def check_paid(self, call: CallRow, paid: Sequence[tuple[Any, ...]]) -> None:
        """Check the entries that settle a call: one account's, or those of its grants in order."""
        money = [entry for entry in paid if entry[1] == SETTLEMENT and self._debit(entry) != "promotion"]
        booked = sum(entry[7] for entry in money)
        codes = [self._debit(entry) for entry in money]
        numbers = [entry[3] for entry in money]
        if booked != call.charge or numbers != list(range(len(money))):
            self._wrong(call, f"{call.charge} due from its customer, {booked} booked in {len(money)} entries")
        if codes != [f"credit:{call.account}"]:
            for entry in money:
                self._check_source(call, entry)
            self._check_order(call, codes)
        self._check_tokens(call, paid)
        for entry in paid:
            credited = (_REVENUE if entry[1] == SETTLEMENT else "tokens:used", call.book)
            right = self._accounts.get(entry[6]) == credited
            right = right and self._accounts.get(entry[5], ("", -1))[1] == call.book == entry[4]
            if not right or entry[7] <= 0 or entry[2] != call.attempt:
                self._wrong(call, f"an entry of kind {entry[1]} has wrong accounts")

    def _check_source(self, call: CallRow, entry: tuple[Any, ...]) -> None:
        code = self._debit(entry)
        grant = self._grant(code, "grant:")
        if grant is None or grant.model or (grant.account, grant.book) != (call.account, call.book):
            self._wrong(call, f"{entry[7]} booked to {code!r}, which is no grant of its account in money")
        else:
            self._spend(call, grant, entry[7])

    def _spend(self, call: CallRow, grant: GrantRow, amount: int) -> None:
        self._spent[grant.id] += amount
        if grant.expires_at and call.opened_at >= grant.expires_at:
            self._say("grant", f"{name_of(call.call)}: opened after {grant.name}, which paid it, had expired")

    def _check_order(self, call: CallRow, codes: Sequence[str]) -> None:
        """First to expire first, the balance last."""
        grants = [self._grants[int(code[6:])] for code in codes if self._grant(code, "grant:") is not None]
        order = [
            (grant.kind == "balance", grant.expires_at == 0, grant.expires_at, grant.id) for grant in grants
        ]
        if order != sorted(order) or len(set(order)) != len(order):
            self._say("grant", f"{name_of(call.call)}: its grants paid in the wrong order: {codes}")

    def _check_tokens(self, call: CallRow, paid: Sequence[tuple[Any, ...]]) -> None:
        """A grant in tokens covers a whole call: the customer pays nothing."""
        tokens = [entry for entry in paid if entry[1] == TOKENS]
        promoted = [entry for entry in paid if entry[1] == SETTLEMENT and self._debit(entry) == "promotion"]
        if not tokens and not promoted:
            return
        used = sum(entry[7] for entry in tokens)
        if (
            len(tokens) > 1
            or len(promoted) > 1
            or call.charge
            or used > call.tokens.input + call.tokens.output
        ):
            self._wrong(call, f"{used} tokens in {len(tokens)} entries beside {call.charge} charged")
        if promoted and not tokens:
            self._wrong(call, "the house paid for it and no grant lost tokens")
        for entry in tokens:
            code = self._debit(entry)
            grant = self._grant(code, "tokens:")
            if grant is None or not grant.model or (grant.account, grant.book) != (call.account, call.book):
                self._wrong(call, f"{used} tokens booked to {code!r}, which is no such grant of its account")
            else:
                self._spend(call, grant, entry[7])

    def _grant(self, code: str, prefix: str) -> GrantRow | None:
        number = code.removeprefix(prefix)
        return self._grants.get(int(number)) if code.startswith(prefix) and number.isdecimal() else None

    def _wrong(self, call: CallRow, said: str) -> None:
        self._say("entry", f"{name_of(call.call)}: {said}")

    # ── postings ─────────────────────────────────────────────────────────────────────────────────

    def take_posting(self, posting: bytes, own: Sequence[tuple[Any, ...]]) -> bool:
        """Check the entries of a posting; False when there is no such posting."""
        return self._postings.take(posting, own)

    def take_dropped(self, own: Sequence[tuple[Any, ...]]) -> None:
        """Take the entries of a call that was dropped: what its grants gave."""
        for entry in own:
            code = self._debit(entry)
            grant = self._grant(code, "grant:") or self._grant(code, "tokens:")
            if grant is not None and entry[1] in {SETTLEMENT, TOKENS}:
                self._spent[grant.id] += entry[7]

    def finish(self) -> None:
        """Compare each grant with what was put there and what was taken, now that all of it is known."""
        self._postings.finish()
        pots = {
            (kind, ref): (amount, spent)
            for kind, ref, amount, spent in self._sql.execute(
                "SELECT kind, ref, amount, spent FROM pots WHERE kind IN ('grant', 'tokens')"
            )
        }
        for grant in self._grants.values():
            given = self._postings.given.get(grant.id, 0)
            rest = given - self._spent[grant.id]
            if rest < 0:
                self._say("grant", f"{grant.name}: {self._spent[grant.id]} spent of {given}")
            if grant.closed_at and rest:
                self._say("grant", f"{grant.name}: closed as expired with {rest} left")
            self._check_expiry(grant)
            pot = pots.pop(("tokens" if grant.model else "grant", grant.id), None)
            if pot is not None and pot != (given, self._spent[grant.id]):
                self._say(
                    "pot", f"{grant.name}: its pot says {pot}, the books {(given, self._spent[grant.id])}"
                )
        for kind, ref in pots:
            self._say("pot", f"a pot of {kind} {ref}, which does not exist")

    def _check_expiry(self, grant: GrantRow) -> None:
        booked = self._postings.expired.get(grant.id)
        if booked is not None and (not grant.expires_at or booked < grant.expires_at):
            self._say("grant", f"{grant.name}: its rest was booked as expired before it had expired")
        if grant.closed_at and (not grant.expires_at or grant.closed_at < grant.expires_at):
            self._say("grant", f"{grant.name}: closed before it had expired")
        if booked is not None and not grant.closed_at:
            self._say("grant", f"{grant.name}: its rest was booked as expired and it is still open")


def split_of(sources: Sequence[Source], settle: Settle) -> list[tuple[str, int, int]]:
    """Return what each account must have lost by a prepaid call: code, number, amount."""
    if sources[0].tokens:
        parts = [("promotion", 0, settle.promoted), (f"tokens:{sources[0].grant}", 0, settle.tokens)]
        return sorted(part for part in parts if part[2])
    before, parts = 0, []
    for number, source in enumerate(sources):
        amount = min(max(settle.charge - before, 0), source.amount)
        before += source.amount
        if amount:
            parts.append((f"grant:{source.grant}", number, amount))
    return sorted(parts)


def paid_of(sql: Connection, call: bytes) -> list[tuple[str, int, int]]:
    """Return what each account has lost by a call, as the books have it."""
    rows = sql.execute(
        "SELECT a.code, e.n, e.amount FROM entries e JOIN ledger_accounts a ON a.id = e.debit"
        " WHERE e.call = ? AND e.kind IN (1, 4)",
        (call,),
    )
    return sorted(rows.fetchall())
