"""The account, project and key of the gateway's own probes: made once, and capped as the settings say.

Nobody knows the key's secret, as it has none: its digest is drawn. Standard library only.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from headgate.stores.sql.bootstrap import BudgetPlace, note_change, public_id, put_budget, writing
from headgate.values import Book

if TYPE_CHECKING:
    from headgate.stores.sql.connection import Connection
    from headgate.values import NanoUSD, WallMicros

_NAME: Final = "probes"  # of the account, the project and the key
_META: Final = "probe_key"
_ORIGIN: Final = "config"


def put_probes(sql: Connection, cap: tuple[NanoUSD, str] | None, tz: str, now: WallMicros) -> int:
    """Make the account of probes where it is wanted, and its cap what the settings say.

    Args:
        sql: the books.
        cap: an amount and its period; None: nothing is probed, and the last cap stays.
        tz: where periods begin.
        now: wall time.

    Returns:
        The key that probes are made with, by its internal id; 0: there is none.
    """
    key = probe_key(sql)
    if cap is None:
        return key
    if not key:
        with writing(sql):
            key = _make(sql, now)
    (account,) = sql.execute(
        "SELECT projects.account FROM keys JOIN projects ON projects.id = keys.project WHERE keys.id = ?",
        (key,),
    ).fetchone()
    put_budget(sql, BudgetPlace(_ORIGIN, account, Book.REAL), (*cap, tz), now)
    return key


def probe_key(sql: Connection) -> int:
    """Return the internal id of the key that probes are made with; 0: there is none."""
    row = sql.execute("SELECT value FROM meta WHERE name = ?", (_META,)).fetchone()
    return int(row[0]) if row else 0


def _make(sql: Connection, now: WallMicros) -> int:
    names = {
        kind: public_id(prefix) for kind, prefix in (("account", "acct"), ("project", "proj"), ("key", "key"))
    }
    (account,) = sql.execute(
        "INSERT INTO accounts (public_id, name, created_at) VALUES (?, ?, ?) RETURNING id",
        (names["account"], _NAME, now),
    ).fetchone()
    (project,) = sql.execute(
        "INSERT INTO projects (public_id, account, name, created_at) VALUES (?, ?, ?, ?) RETURNING id",
        (names["project"], account, _NAME, now),
    ).fetchone()
    (key,) = sql.execute(
        "INSERT INTO keys (public_id, digest, project, kind, name, shown, created_by, created_at)"
        " VALUES (?, ?, ?, 'live', ?, ?, 'gateway', ?) RETURNING id",
        (names["key"], secrets.token_bytes(32), project, _NAME, _NAME, now),
    ).fetchone()
    sql.execute("INSERT INTO meta VALUES (?, ?)", (_META, str(key)))
    for kind, name in names.items():
        note_change(sql, kind, name, now)
    return int(key)
