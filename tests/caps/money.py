"""Accounts, keys, budgets and grants, made in the data folder of a server that runs; and what its books say."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass

from headgate.identity.keys import mint_key
from headgate.money.rules import Posting
from headgate.stores.sql.bootstrap import public_id, writing
from headgate.stores.sql.connection import Connection
from headgate.stores.sql.database import Place, connect, folder_of
from headgate.stores.sql.pepper import read_pepper
from headgate.stores.sql.postings import Grant, add_grant, new_id, post

PRICE = 600  # nano-USD per token of output; the input is free


@dataclass(frozen=True)
class Payer:
    """An account with one project and some keys."""

    account: int
    project: int
    keys: tuple[tuple[int, str], ...]  # id, and the key itself


class Money:
    """One data folder."""

    def __init__(self, data: Place) -> None:
        self.data = data
        pepper = read_pepper(folder_of(data))
        assert pepper is not None
        self._pepper = pepper

    def payer(self, keys: int = 1, *, prepaid: bool = False) -> Payer:
        with closing(connect(self.data)) as sql, writing(sql):
            names = public_id("acct"), public_id("proj")
            (account,) = sql.execute(
                "INSERT INTO accounts (public_id, name, prepaid, created_at) VALUES (?, 'a', ?, 0) RETURNING id",
                (names[0], int(prepaid)),
            ).fetchone()
            (project,) = sql.execute(
                "INSERT INTO projects (public_id, account, name, created_at) VALUES (?, ?, 'p', 0) RETURNING id",
                (names[1], account),
            ).fetchone()
            change(sql, "account", names[0])
            change(sql, "project", names[1])
            made = tuple(self._key(sql, project) for _ in range(keys))
        return Payer(account, project, made)

    def _key(self, sql: Connection, project: int) -> tuple[int, str]:
        minted = mint_key(self._pepper)
        name = public_id("key")
        (number,) = sql.execute(
            "INSERT INTO keys (public_id, digest, project, kind, name, shown, created_at)"
            " VALUES (?, ?, ?, 'live', 'k', ?, 0) RETURNING id",
            (name, minted.digest, project, minted.shown),
        ).fetchone()
        change(sql, "key", name)
        return number, minted.text

    def budget(self, scope: str, ref: int, amount: int, unit: str = "total", tz: str = "UTC") -> int:
        with closing(connect(self.data)) as sql, writing(sql):
            name = public_id("budget")
            (number,) = sql.execute(
                "INSERT INTO budgets (public_id, scope, ref, book, amount, unit, tz, origin, created_at)"
                " VALUES (?, ?, ?, 0, ?, ?, ?, 'test', 0) RETURNING id",
                (name, scope, ref, amount, unit, tz),
            ).fetchone()
            change(sql, "budget", name)
        return int(number)

    def grant(self, account: int, amount: int, expires_at: int = 0) -> int:
        """Give an account credit, with its posting and entries."""
        now = time.time_ns() // 1000
        kind, posted = ("gift", "grant") if expires_at else ("balance", "topup")
        with closing(connect(self.data)) as sql, writing(sql):
            number, name = add_grant(sql, Grant(account, 0, kind, now, expires_at=expires_at))
            post(
                sql,
                Posting(
                    new_id(now),
                    0,
                    account,
                    number,
                    posted,
                    f"test:{name}",
                    amount=amount,
                    actor="test",
                    at=now,
                ),
            )
            change(sql, "account", name)
        return number

    def ask(self, question: str, *values: object) -> list[tuple[int, ...]]:
        with closing(connect(self.data, read_only=True)) as sql:
            return sql.execute(question, values).fetchall()

    def charges(self, payer: Payer) -> dict[str, int]:
        """Return what each call of an account was charged."""
        rows = self.ask("SELECT call, charge FROM calls WHERE account = ?", payer.account)
        return {"req_" + call.hex(): charge for call, charge in rows}  # type: ignore[attr-defined]


def change(sql: Connection, kind: str, ref: str) -> None:
    """Tell the workers."""
    sql.execute("INSERT INTO changes (kind, ref, at) VALUES (?, ?, 0)", (kind, ref))
