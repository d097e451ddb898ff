"""Stored keys of providers, as a server opens them at its start and when they change. Standard library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.stores.sql.bootstrap import writing
from headgate.vaults.envelope import Sealed, SealError, SecretGone, Slip, unseal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.stores.sql.connection import Connection
    from headgate.values import WallMicros

STORED: Final = "stored:"


def open_secret(sql: Connection, keks: Sequence[bytes], name: str, host: str, now: WallMicros) -> str:
    """Return a stored secret for a host; one that was stored for another host is cleared.

    Raises:
        SecretGone: there is none, or it was for another host.
        SealError: it cannot be opened.
    """
    row = sql.execute(
        "SELECT id, host, version, wrapped, nonce, sealed FROM secrets WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        raise SecretGone(f"There is no stored secret {name!r}: `headgate secrets store {name}` puts it in.")
    if not keks:
        raise SealError(
            f"The stored secret {name!r} needs the key encryption key: set HEADGATE_KEK to the one that it "
            "was stored with."
        )
    number, stored_for, version, *box = row
    if stored_for != host:
        _clear(sql, name, stored_for, host, now)
        raise SecretGone(
            f"The stored secret {name!r} was for {stored_for}, and the provider is now at {host}: it has "
            "been cleared, so that it is sent to nobody else. Store the secret again."
        )
    return unseal(keks, Slip(number, name, host, version), Sealed(*box))


def _clear(sql: Connection, name: str, stored_for: str, host: str, now: WallMicros) -> None:
    detail = msgspec.json.encode({"host": [stored_for, host]}).decode()
    with writing(sql):
        sql.execute("DELETE FROM secrets WHERE name = ?", (name,))
        sql.execute("INSERT INTO changes (kind, ref, at) VALUES ('secret', ?, ?)", (name, now))
        sql.execute(
            "INSERT INTO audit (at, account, actor, action, kind, ref, outcome, detail)"
            " VALUES (?, 0, 'config', 'secret.cleared', 'secret', ?, 'done', ?)",
            (now, name, detail),
        )
