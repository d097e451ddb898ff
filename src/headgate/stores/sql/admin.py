"""Keys and budgets in SQL, through SQLAlchemy Core. For commands; a server reads with `database`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from headgate.records import BudgetRecord, KeyRecord
from headgate.stores.sql.bootstrap import DEFAULT_PROJECT, public_id
from headgate.stores.sql.engine import open_engine
from headgate.stores.sql.tables import SCOPES, budgets, changes, keys, projects
from headgate.values import Book

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.values import WallMicros


class SqlAdminStore:
    """Keys and budgets of one data folder. Implements `ports.AdminStore`; close it after use.

    Raises:
        LookupError: from a method that is given a public id that does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._engine = open_engine(folder)

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def add_key(self, record: KeyRecord, digest: bytes) -> KeyRecord:
        """Store a new key; an empty `id` and `project` are filled in (the default project)."""
        with self._engine.begin() as sql:
            where = (
                projects.c.public_id == record.project if record.project else projects.c.id == DEFAULT_PROJECT
            )
            project = sql.execute(select(projects.c.id, projects.c.public_id).where(where)).first()
            if project is None:
                raise LookupError(f"no project {record.project}")
            record = msgspec.structs.replace(
                record, id=record.id or public_id("key"), project=project.public_id
            )
            row = msgspec.structs.asdict(record)
            row |= {"public_id": row.pop("id"), "project": project.id, "digest": digest}
            sql.execute(insert(keys).values(row))
            _note_change(sql, "key", record.id, record.created_at)
        return record

    def list_keys(self) -> list[KeyRecord]:
        """Return every key, the oldest first."""
        query = (
            select(keys, projects.c.public_id.label("project_id"))
            .join(projects, projects.c.id == keys.c.project)
            .order_by(keys.c.id)
        )
        with self._engine.connect() as sql:
            return [_key(row) for row in sql.execute(query).mappings()]

    def revoke_key(self, key: str, at: WallMicros) -> bool:
        """Revoke a key by its public id; False when it was revoked already."""
        with self._engine.begin() as sql:
            _internal(sql, "key", key)
            change = update(keys).where(keys.c.public_id == key, keys.c.revoked_at == 0)
            if not sql.execute(change.values(revoked_at=at)).rowcount:
                return False
            _note_change(sql, "key", key, at)
        return True

    def list_budgets(self) -> list[BudgetRecord]:
        """Return every budget, the oldest first."""
        with self._engine.connect() as sql:
            rows = sql.execute(select(budgets).order_by(budgets.c.id)).mappings().all()
            return [_budget(row, _public(sql, row["scope"], row["ref"])) for row in rows]

    def put_budget(self, record: BudgetRecord) -> BudgetRecord:
        """Store a budget in place of the one of the same scope, ref, book, unit and origin."""
        with self._engine.begin() as sql:
            row = msgspec.structs.asdict(record)
            row |= {"ref": _internal(sql, record.scope, record.ref), "book": int(record.book)}
            same = [budgets.c[name] == row[name] for name in ("scope", "ref", "book", "unit", "origin")]
            old = sql.execute(select(budgets.c.public_id).where(*same)).scalar()
            record = msgspec.structs.replace(record, id=old or record.id or public_id("budget"))
            row |= {"public_id": record.id}
            del row["id"]
            sql.execute(delete(budgets).where(*same))
            sql.execute(insert(budgets).values(row))
            _note_change(sql, "budget", record.id, record.created_at)
        return record

    def remove_budget(self, budget: str, at: WallMicros) -> bool:
        """Remove a budget by its public id; False when there is none."""
        with self._engine.begin() as sql:
            if not sql.execute(delete(budgets).where(budgets.c.public_id == budget)).rowcount:
                return False
            _note_change(sql, "budget", budget, at)
        return True


def _note_change(sql: Connection, kind: str, ref: str, at: WallMicros) -> None:
    """Tell running servers, which poll this table."""
    sql.execute(insert(changes).values(kind=kind, ref=ref, at=at))


def _internal(sql: Connection, scope: str, public: str) -> int:
    table = SCOPES[scope]
    found = sql.execute(select(table.c.id).where(table.c.public_id == public)).scalar()
    if found is None:
        raise LookupError(f"no {scope} {public}")
    return int(found)


def _public(sql: Connection, scope: str, internal: int) -> str:
    table = SCOPES[scope]
    return str(sql.execute(select(table.c.public_id).where(table.c.id == internal)).scalar() or internal)


def _key(row: Any) -> KeyRecord:
    same = ("name", "kind", "shown", "rpm", "tpm", "concurrency", "created_at", "expires_at", "revoked_at")
    return KeyRecord(id=row["public_id"], project=row["project_id"], **{name: row[name] for name in same})


def _budget(row: Any, ref: str) -> BudgetRecord:
    same = ("scope", "amount", "unit", "tz", "origin", "created_at")
    return BudgetRecord(
        id=row["public_id"], ref=ref, book=Book(row["book"]), **{name: row[name] for name in same}
    )
