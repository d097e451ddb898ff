"""What people manage, in SQL, through SQLAlchemy Core. For commands and the admin API.

A server's hot path reads with `database`; what is written here reaches it through `changes`.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from sqlalchemy import delete, insert, null, select, update

from headgate.records import (
    Above,
    AuditRecord,
    Below,
    BudgetRecord,
    LimitRecord,
    MemberRecord,
    ProjectMemberRecord,
    SecretRecord,
)
from headgate.stores.sql.bootstrap import public_id
from headgate.stores.sql.credit import SqlCredit
from headgate.stores.sql.creditshapes import CREDIT
from headgate.stores.sql.engine import READING, open_engine, raw
from headgate.stores.sql.pots import remove, resize
from headgate.stores.sql.shapes import SCOPES, SHAPES as PEOPLE
from headgate.stores.sql.tables import budgets, changes, keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Select

    from headgate.records import KeyRecord
    from headgate.stores.sql.database import Place
    from headgate.stores.sql.shapes import Shape
    from headgate.values import WallMicros

R = TypeVar("R", bound=msgspec.Struct)
SHAPES = {**PEOPLE, **CREDIT}


class SqlAdminStore:
    """What people manage in one database. Implements `ops.desk.AdminStore`; close it after use.

    Threads may share it; one at a time is in a transaction.
    """

    def __init__(self, place: Place) -> None:
        self._engine = open_engine(place)
        self._turn = threading.Lock()

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[SqlRegister]:
        """Begin a transaction that only reads."""
        with self._turn, self._engine.connect().execution_options(**{READING: True}) as sql, sql.begin():
            yield SqlRegister(sql)

    @contextmanager
    def writing(self) -> Iterator[SqlRegister]:
        """Begin one that writes, alone: committed at the end of the block, undone by any exception."""
        with self._turn, self._engine.begin() as sql:
            yield SqlRegister(sql)


class SqlRegister:
    """What people manage, inside one transaction. Implements `ops.desk.Register`."""

    __slots__ = ("_sql",)

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def get(self, kind: type[R], /, **where: str | int | bytes) -> R | None:
        """Return the only record whose members have these values, or None."""
        shape = SHAPES[kind]
        row = self._sql.execute(_filtered(shape, where)).mappings().one_or_none()
        return None if row is None else _record(kind, shape, row)

    def all(self, kind: type[R], /, **where: str | int | Sequence[str] | Below | Above) -> list[R]:
        """Return every record whose members have these values (one of a sequence), the oldest first."""
        shape = SHAPES[kind]
        rows = self._sql.execute(_filtered(shape, where).order_by(shape.order)).mappings()
        return [_record(kind, shape, row) for row in rows]

    def page(
        self, kind: type[R], page: Any, where: Mapping[str, str | int | Sequence[str] | Below | Above]
    ) -> list[R]:
        """Return at most `limit` + 1 of them from a cursor on, in the page's order.

        Raises:
            LookupError: there is no such cursor.
        """
        shape = SHAPES[kind]
        query = _filtered(shape, where)
        rising = (page.order == "asc") != bool(page.before)
        cursor = page.after or page.before
        if cursor:
            mark = query.with_only_columns(shape.order).where(shape.where["id"] == cursor)
            found = self._sql.execute(mark).scalar()
            if found is None:
                raise LookupError(cursor)
            query = query.where(shape.order > found if rising else shape.order < found)
        query = query.order_by(shape.order.asc() if rising else shape.order.desc()).limit(page.limit + 1)
        return [_record(kind, shape, row) for row in self._sql.execute(query).mappings()]

    def add(self, record: R, **hidden: object) -> R:
        """Store a new record and return it with its id; `hidden` are columns that no record has."""
        shape = SHAPES[type(record)]
        if shape.prefix and not getattr(record, "id", ""):
            record = msgspec.structs.replace(record, id=public_id(_prefix(record, shape)))
        self._sql.execute(insert(shape.table).values({**self._row(record, shape), **hidden}))
        return record

    def put(self, record: R, **hidden: object) -> None:
        """Store a record in place of the one with its id."""
        shape = SHAPES[type(record)]
        row = self._row(record, shape)
        changed = self._sql.execute(
            update(shape.table).where(*_identity(shape, row)).values({**row, **hidden})
        )
        if changed.rowcount != 1:
            raise LookupError(f"{shape.table.name} {getattr(record, 'id', '')}")
        if isinstance(record, BudgetRecord):  # what is held in it stays held
            resize(raw(self._sql), "budget", self._internal(budgets, record.id), record.amount)

    def remove(self, record: msgspec.Struct) -> None:
        """Remove a record."""
        if isinstance(record, BudgetRecord):
            remove(raw(self._sql), self._internal(budgets, record.id))
        shape = SHAPES[type(record)]
        self._sql.execute(delete(shape.table).where(*_identity(shape, self._row(record, shape))))

    def rotate(self, record: KeyRecord, digest: bytes, *, keep_old: bool) -> None:
        """Give a key a new digest, keeping the one that it has as its old one, or none."""
        old = keys.c.digest if keep_old else null()
        change = update(keys).where(keys.c.public_id == record.id)
        self._sql.execute(change.values(digest=digest, old_digest=old))

    def changed(self, kind: str, ref: str, at: WallMicros) -> None:
        """Tell running servers, which poll this table."""
        self._sql.execute(insert(changes).values(kind=kind, ref=ref, at=at))

    @property
    def credit(self) -> SqlCredit:
        """Return what moves credit, in this transaction."""
        return SqlCredit(raw(self._sql))

    def _row(self, record: msgspec.Struct, shape: Shape) -> dict[str, Any]:
        """Return a record as its table has it."""
        row = msgspec.structs.asdict(record)
        for name in shape.derived:
            del row[name]
        for name in shape.packed:
            row[name] = msgspec.json.encode(row[name]).decode()
        for name, table in shape.refs.items():
            row[name] = self._internal(table, row[name]) if row[name] else 0
        if isinstance(record, BudgetRecord | LimitRecord):
            row["ref"] = self._internal(SCOPES[record.scope], record.ref)
        if isinstance(record, ProjectMemberRecord):
            row["member"] = row.pop("id")
        elif isinstance(record, AuditRecord):
            del row["id"]
        elif isinstance(record, SecretRecord):
            row["name"], row["id"] = row.pop("id"), row.pop("row")
        else:
            row["public_id"] = row.pop("id")
        return row

    def _internal(self, table: Any, public: str) -> int:
        found = self._sql.execute(select(table.c.id).where(table.c.public_id == public)).scalar()
        if found is None:
            raise LookupError(f"no row {public} in {table.name}")
        return int(found)


def _prefix(record: msgspec.Struct, shape: Shape) -> str:
    return "svc" if isinstance(record, MemberRecord) and record.project else shape.prefix


def _identity(shape: Shape, row: dict[str, Any]) -> list[ColumnElement[bool]]:
    names = next(names for names in (("public_id",), ("project", "member"), ("name",)) if names[0] in row)
    return [shape.table.c[name] == row[name] for name in names]


def _filtered(shape: Shape, where: Mapping[str, Any]) -> Select[Any]:
    query = shape.query
    for name, value in where.items():
        column = shape.where[name]
        if isinstance(value, (Below, Above)):
            query = query.where(column < value.bound if isinstance(value, Below) else column > value.bound)
            continue
        many = isinstance(value, (tuple, list, set, frozenset))
        query = query.where(column.in_(value) if many else column == value)
    return query


def _record(kind: type[R], shape: Shape, row: Any) -> R:
    members = {name: row[name] for name in kind.__struct_fields__}
    for name in shape.packed:
        members[name] = msgspec.json.decode(members[name])
    return msgspec.convert(members, kind, strict=False)
