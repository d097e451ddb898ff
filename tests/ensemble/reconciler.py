"""What clients saw, what the provider did, what the ledger says and what batches gave, compared to the nano-USD."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any, NamedTuple

from tests.caps.money import PRICE
from tests.ensemble.load import BATCH_TOKENS, RPM, TOKENS, Load
from tests.ensemble.table import Row

BOOKED_S = 20.0
_LINE = BATCH_TOKENS * PRICE // 2  # half the price


class Booked(NamedTuple):
    """A call in the books."""

    key: int
    charge: int
    status: int
    estimated: int


class Reconciler:
    """The comparison, once the load has ended.

    Args:
        load: that has ended.
        shares: times that Redis was away, each of which lets through a share of a limit more.
    """

    def __init__(self, load: Load, shares: int) -> None:
        self.load, self.world, self.shares = load, load.world, shares
        self.booked: dict[str, Booked] = {}  # by request

    def _ask(self, question: str, *values: object) -> list[Any]:
        return self.world.fleet.money.ask(question, *values)

    def _read(self) -> None:
        rows = self._ask("SELECT call, key, charge, status, flags & 1 FROM calls")
        self.booked = {"req_" + call.hex(): Booked(*rest) for call, *rest in rows}

    async def drained(self) -> float:
        """Wait until the books have every call that the provider served; return how long that took."""
        began = time.monotonic()
        while True:
            await asyncio.to_thread(self._read)
            if self.world.provider.notes.keys() <= self.booked.keys() or time.monotonic() - began > BOOKED_S:
                return time.monotonic() - began
            await asyncio.sleep(0.2)

    async def rows(self) -> list[Row]:
        """Stop everything, and compare."""
        took_s = await self.drained()
        stopped = Row("processes stop in order", "4 exit codes 0, `ledger check` finds nothing in 4 folders")
        codes = await self.world.stop()
        stopped.expect(set(codes) == {0}, f"exit codes {codes}")
        every = (*self.world.fleet.replicas, self.world.worker)
        found = await asyncio.gather(*(asyncio.to_thread(each.findings) for each in every))
        for each, findings in zip(every, found, strict=True):
            stopped.expect(findings == [], f"{each.folder.name}: {findings}")
        stopped.seen = f"{codes}, {len(stopped.wrong)} findings"
        return [*await asyncio.to_thread(self._compare, took_s), stopped]

    def _compare(self, took_s: float) -> list[Row]:
        self._read()
        return [self.calls(took_s), self.batches(), self.budgets(), self.limited(), self.answers()]

    def calls(self, took_s: float) -> Row:
        """Every call: its client, the provider and the ledger."""
        row = Row("calls: client, provider, ledger", "0 lost, 0 doubled, 0 nano-USD of difference")
        notes = self.world.provider.notes
        halved = {payer.keys[0][0] for payer in self.load.batch_keys.values()}
        valid = halved | {payer.keys[0][0] for payer in self.load.payers.values()}
        served = Counter(each.request_id for each in self.load.seen if each.status == 200)
        lost = [name for name in served if name not in self.booked or name not in notes]
        unbooked = [name for name, note in notes.items() if note.whole and name not in self.booked]
        row.expect(not lost, f"{len(lost)} answers that the books or the provider do not know: {lost[:3]}")
        row.expect(not unbooked, f"{len(unbooked)} calls of the provider that are not booked: {unbooked[:3]}")
        row.expect(set(served.values()) <= {1}, "two answers have one id")
        again = [name for name, note in notes.items() if note.attempts > 1]
        row.expect(not again, f"{len(again)} calls were sent twice")
        cut = due = charged = 0
        for name, call in self.booked.items():
            note = notes.get(name)
            price = 0 if note is None else note.tokens * PRICE // (2 if call.key in halved else 1)
            if call.status != 200 and call.key not in valid:  # it was revoked while the provider answered
                cut, price = cut + (note is not None), min(call.charge, price)
            row.expect(call.charge == price, f"{name}: {call}, the provider's record says {price}")
            row.expect(not call.estimated or call.status != 200, f"{name}: estimated")
            due, charged = due + price, charged + call.charge
        entries = self._ask("SELECT call, sum(amount) FROM entries WHERE kind = 1 GROUP BY call")
        settled = {"req_" + call.hex(): amount for call, amount in entries}
        other = [name for name, call in self.booked.items() if settled.get(name, 0) != call.charge]
        row.expect(not other, f"{len(other)} calls whose entries are not their charge: {other[:3]}")
        row.seen = (
            f"{len(served):,} answers, {len(notes):,} at the provider, {len(self.booked):,} booked; "
            f"{cut} cut; lost {len(lost) + len(unbooked)}, difference {charged - due} of {due:,} nano-USD; booked after {took_s:.1f} s"
        )
        return row

    def batches(self) -> Row:
        """Every batch: its outputs, its lines, its charges, and what it holds."""
        row = Row("batches: lines, charges", "one output or error line and one charge for each line")
        for batch in self.load.batches:
            names = Counter(each["custom_id"] for each in batch.rows)
            wanted = Counter(f"line-{number}" for number in range(batch.lines))
            row.expect(
                batch.found.get("status") == "completed", f"{batch.name} is {batch.found.get('status')}"
            )
            row.expect(names == wanted, f"{batch.name}: {names.total()} outputs for {batch.lines} lines")
            failed = [each for each in batch.rows if each["error"] or each["response"]["status_code"] != 200]
            row.expect(not failed, f"{batch.name}: {len(failed)} lines failed: {failed[:1]}")
        known = self._ask("SELECT id, status, total, completed, charge FROM batches")
        for name, status, total, completed, charge in known:
            row.expect(
                (status, completed) == ("completed", total), f"{name}: {status}, {completed} of {total}"
            )
            row.expect(charge == total * _LINE, f"{name}: {charge} charged, {total * _LINE} due")
        lines = sum(total for _, _, total, _, _ in known)
        keys = [payer.keys[0][0] for payer in self.load.batch_keys.values()]
        charges = [call.charge for call in self.booked.values() if call.key in keys and call.charge]
        row.expect(charges == [_LINE] * lines, f"{len(charges)} charges for {lines} lines")
        open_lines = self._ask("SELECT count(*) FROM batch_lines")[0][0]
        row.expect(open_lines == 0, f"{open_lines} lines are left")
        slowest = max((batch.took_s for batch in self.load.batches), default=0.0)
        row.seen = f"{len(known)} batches, {lines:,} lines, {len(charges):,} charges; slowest {slowest:.1f} s"
        return row

    def budgets(self) -> Row:
        """Every budget and grant has spent what its calls were charged, and nothing is held of it."""
        row = Row("R-02 budgets and credit", "spent = charged, never above; nothing held")
        tight = self.load.payers["tight"].keys[0][0]
        spent = self._charged(tight)
        cap = self.load.tight * TOKENS * PRICE
        row.expect(spent == cap, f"{spent} spent of {cap}")
        pots = self._ask("SELECT kind, ref, spent, amount FROM pots")
        for who, payer in {**self.load.payers, **self.load.batch_keys}.items():
            charged = self._charged(payer.keys[0][0])
            refs = [
                ("budget", ref)
                for (ref,) in self._ask("SELECT id FROM budgets WHERE ref = ?", payer.keys[0][0])
            ]
            refs += [
                ("grant", ref)
                for (ref,) in self._ask("SELECT id FROM grants WHERE account = ?", payer.account)
            ]
            for kind, ref, taken, amount in pots:
                if (kind, ref) in refs:
                    row.expect(taken == charged <= amount, f"{who}: {taken} of {amount}, charged {charged}")
        held = self._ask("SELECT slot, sum(amount) FROM slices WHERE amount > 0 GROUP BY slot")
        row.expect(not held, f"held: {held}")
        row.seen = f"{self.load.tight} calls' worth: {spent // (TOKENS * PRICE)} granted; {len(pots)} pots exact; held {sum(amount for _, amount in held)}"
        return row

    def _charged(self, key: int) -> int:
        return sum(call.charge for call in self.booked.values() if call.key == key)

    def limited(self) -> Row:
        """The limited key, over all that happened."""
        row = Row("R-10 limit through outages", "at most one local share over for each loss of Redis")
        passed = [each for each in self.load.seen if each.who == "limited" and each.status == 200]
        seconds = passed[-1].at + passed[-1].took_s - passed[0].at
        allowed = RPM * (1 + seconds / 60)
        most = allowed + self.shares * RPM / len(self.world.fleet.replicas) + 1
        row.expect(len(passed) <= most, f"{len(passed)} passed")
        row.seen = f"{len(passed)} of {allowed:.0f}, at most {most:.0f}, in {seconds:.0f} s"
        return row

    def answers(self) -> Row:
        """What valid keys were answered, over all that happened."""
        row = Row("answers to valid keys", "never 401, never 500, never none")
        everything = [*self.load.seen, *self.load.refused]
        counts = Counter(each.status for each in everything)
        for each in everything:
            row.expect(each.status in {200, 429, 503}, f"{each.who}: {each.status} {each.said}")
        row.seen = ", ".join(f"{status}: {count:,}" for status, count in sorted(counts.items()))
        return row
