"""Who pays for shadow traffic: an account of the house, with a project and a budget for each model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.stores.sql.bootstrap import public_id, writing
from headgate.stores.sql.postings import note_change
from headgate.stores.sql.pots import resize
from headgate.values import Book, Principal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.money.amounts import Unit
    from headgate.stores.sql.connection import Connection
    from headgate.values import NanoUSD, WallMicros

NAME: Final = "shadow"
_META: Final = "shadow_account"
_ORIGIN: Final = "config"


def put_shadows(
    sql: Connection, budgets: Mapping[str, tuple[NanoUSD, Unit]], tz: str, now: WallMicros
) -> dict[str, Principal]:
    """Make the budgets of shadows what the settings say; return who pays, by the model. Atomic.

    Nothing is written when they say so already. The key of a payer is one that nobody has.
    """
    if not budgets:
        return {}
    with writing(sql):
        account, public = _account(sql, now)
        payers = {}
        for model, (amount, unit) in budgets.items():
            project, project_id = _project(sql, account, model, now)
            _put_budget(sql, project, (amount, unit, tz), now)
            payers[model] = Principal(
                -project, project, account, name=NAME, account_id=public, project_id=project_id
            )
    return payers


def _account(sql: Connection, now: WallMicros) -> tuple[int, str]:
    query = (
        "SELECT a.id, a.public_id FROM accounts a JOIN meta m ON m.value = CAST(a.id AS TEXT)"
        " WHERE m.name = ?"
    )
    row = sql.execute(query, (_META,)).fetchone()
    if row is None:
        name = public_id("acct")
        made = sql.execute(
            "INSERT INTO accounts (public_id, name, created_at) VALUES (?, ?, ?) RETURNING id",
            (name, NAME, now),
        ).fetchone()
        row = (made[0], name)
        sql.execute("INSERT INTO meta VALUES (?, ?)", (_META, str(row[0])))
        note_change(sql, "account", name, now)
    return row[0], row[1]


def _project(sql: Connection, account: int, model: str, now: WallMicros) -> tuple[int, str]:
    query = "SELECT id, public_id FROM projects WHERE account = ? AND name = ?"
    row = sql.execute(query, (account, model)).fetchone()
    if row is None:
        name = public_id("proj")
        made = sql.execute(
            "INSERT INTO projects (public_id, account, name, created_at) VALUES (?, ?, ?, ?) RETURNING id",
            (name, account, model, now),
        ).fetchone()
        row = (made[0], name)
        note_change(sql, "project", name, now)
    return row[0], row[1]


def _put_budget(sql: Connection, project: int, wanted: tuple[NanoUSD, Unit, str], now: WallMicros) -> None:
    row = sql.execute(
        "SELECT id, public_id, amount, unit, tz FROM budgets"
        " WHERE origin = ? AND scope = 'project' AND ref = ? AND book = ?",
        (_ORIGIN, project, int(Book.REAL)),
    ).fetchone()
    if row is not None and row[2:] == wanted:
        return
    name = row[1] if row is not None else public_id("budget")
    if row is not None:
        sql.execute("UPDATE budgets SET amount = ?, unit = ?, tz = ? WHERE id = ?", (*wanted, row[0]))
        resize(sql, "budget", row[0], wanted[0])
    else:
        sql.execute(
            "INSERT INTO budgets (public_id, scope, ref, book, amount, unit, tz, origin, created_at)"
            " VALUES (?, 'project', ?, ?, ?, ?, ?, ?, ?)",
            (name, project, int(Book.REAL), *wanted, _ORIGIN, now),
        )
    note_change(sql, "budget", name, now)
