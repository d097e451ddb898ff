"""A store in memory and a clock moved by hand."""

import itertools

import msgspec

from headgate.records import BudgetRecord, KeyRecord


class FakeAdminStore:
    def __init__(self) -> None:
        self.keys: list[KeyRecord] = []
        self.digests: list[bytes] = []
        self.caps: list[BudgetRecord] = []
        self._numbers = itertools.count(1)

    def add_key(self, record: KeyRecord, digest: bytes) -> KeyRecord:
        record = msgspec.structs.replace(record, id=f"key_{next(self._numbers)}", project="proj_1")
        self.keys.append(record)
        self.digests.append(digest)
        return record

    def list_keys(self) -> list[KeyRecord]:
        return list(self.keys)

    def revoke_key(self, key: str, at: int) -> bool:
        for index, record in enumerate(self.keys):
            if record.id == key and not record.revoked_at:
                self.keys[index] = msgspec.structs.replace(record, revoked_at=at)
                return True
        return False

    def list_budgets(self) -> list[BudgetRecord]:
        return list(self.caps)

    def put_budget(self, record: BudgetRecord) -> BudgetRecord:
        if record.ref == "acct_none":
            raise LookupError(record.ref)
        record = msgspec.structs.replace(record, id=f"budget_{next(self._numbers)}")
        self.caps.append(record)
        return record

    def remove_budget(self, budget: str, at: int) -> bool:
        before = len(self.caps)
        self.caps = [record for record in self.caps if record.id != budget]
        return len(self.caps) < before


class HandClock:
    def __init__(self, wall: int = 1_790_000_000_000_000) -> None:
        self.now = wall

    def wall(self) -> int:
        return self.now

    def monotonic(self) -> int:
        return self.now * 1000
