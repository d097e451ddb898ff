"""Several data folders on one database: each is a node, and keeps its journals to itself.

A database that lies in its data folder has one node, without a name; its slots are `slot-0`, `slot-1`. On a
database that folders share every node has a name, which stands in its folder, and its slots are
`NODE/slot-0`. Standard library only.

Only the node itself can replay its journals, so only it gives back what they may have spent;
when its folder is lost for good, people write that off.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from headgate import __version__
from headgate.stores.durable import write_once
from headgate.stores.sql import doubts, pots
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.pepper import DataFolderError
from headgate.wire.recorded import State

if TYPE_CHECKING:
    from headgate.stores.sql.connection import Connection
    from headgate.values import NanoUSD, WallMicros

FILE: Final = "node"
SILENT_S: Final = 2.5  # a worker tells that it lives each 0.4 s, and may spend for 1 s more
_LOOK_S: Final = 0.25
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class Node(NamedTuple):
    """A data folder on a database that it shares."""

    name: str
    token: str  # tells the folder from another one that was given the same name


class NodeRow(NamedTuple):
    """A node as people see it."""

    name: str
    host: str
    pid: int
    version: str
    started_at: WallMicros
    workers: int  # in service, as far as the database knows
    seen_at: WallMicros  # when one of them last said so, by its own clock
    lent: NanoUSD  # in their hands, of all pots of real money together


def slot_name(node: str, slot: str) -> str:
    """Return what the database calls a slot of a node."""
    return f"{node}/{slot}" if node else slot


def belongs(slot: str, node: str) -> bool:
    """Say whether a slot is a node's."""
    owner, sign, _ = slot.rpartition("/")
    return owner == node and bool(sign) == bool(node) and slot != pots.LOST and not slot.startswith("batch-")


def read_node(folder: Path) -> Node | None:
    """Return the node that a data folder is; None: it was never one.

    Raises:
        DataFolderError: the file cannot be read, or is none.
    """
    path = folder / FILE
    try:
        words = path.read_text(encoding="ascii").split()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as fault:
        raise DataFolderError(f"Cannot read the node's name {path}: {fault}.") from fault
    if len(words) != 2 or not _NAME.fullmatch(words[0]):
        raise DataFolderError(f"{path} is not a node's name and token. Restore it from your backup.")
    return Node(*words)


def own_node(folder: Path, wanted: str = "") -> Node:
    """Return the node that a data folder is; one that never was becomes one, durably.

    Args:
        folder: the data folder.
        wanted: the name that it must have; empty: any, made of the machine's.

    Raises:
        DataFolderError: it has another name, the name cannot be one, or it cannot be written.
    """
    if wanted and not _NAME.fullmatch(wanted):
        raise DataFolderError(
            f"{wanted!r} cannot be a node's name: 1 to 63 letters, digits, dots, hyphens and underscores."
        )
    node = read_node(folder)
    if node is None:
        return _make(folder, wanted)
    if wanted and node.name != wanted:
        raise DataFolderError(
            f"{folder} is the node {node.name!r}, and the settings call it {wanted!r}. Its journals are "
            "booked under its own name: keep that, or use another data folder."
        )
    return node


def served_node(folder: Path, database: str, wanted: str) -> str:
    """Return the name of the node that a process serves a folder as.

    Args:
        folder: the data folder.
        database: the one that it shares; empty: it has one of its own, and then no name.
        wanted: the name that it must have; empty: any.

    Raises:
        DataFolderError: it has another name, or the name cannot be one.
    """
    return own_node(folder, wanted).name if database else ""


def _make(folder: Path, wanted: str) -> Node:
    """Write down which node a folder is; where another process was faster, it is what that one said."""
    node = Node(wanted or _invented(), secrets.token_hex(8))
    try:
        write_once(folder / FILE, f"{node.name} {node.token}\n".encode("ascii"))
    except FileExistsError:
        return own_node(folder, wanted)
    except OSError as fault:
        raise DataFolderError(f"Cannot write the node's name {folder / FILE}: {fault.strerror}.") from fault
    return node


def _invented() -> str:
    """Return a name that says where it is and that nobody else has."""
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().partition(".")[0].lower()).strip("-")
    return f"{host[:40] or 'node'}-{secrets.token_hex(3)}"


def _place(folder: Path) -> str:
    """Return where a folder is: the same again only where its lock proves that nobody else serves it."""
    found = (folder / FILE).stat()
    boot = _BOOT.read_text(encoding="ascii").strip() if _BOOT.exists() else platform.node()
    return f"{boot}:{found.st_dev}:{found.st_ino}"


# ── in the database ──────────────────────────────────────────────────────────────────────────────


def enlist(sql: Connection, folder: Path, now: WallMicros) -> None:
    """Take the name of a node for its data folder, which this process has locked.

    A copy of a folder that is being served elsewhere is found by its life signs; that takes up to 2.5 s.

    Raises:
        DataFolderError: another folder has the name, or a copy of this one is being served.
    """
    node, place = own_node(folder), _place(folder)
    row = sql.execute("SELECT token, place, told FROM nodes WHERE node = ?", (node.name,)).fetchone()
    if row is not None and row[0] == node.token and row[1] != place and lives(sql, node.name):
        raise DataFolderError(
            f"The node {node.name!r} is being served from another copy of {folder} ({_told(row[2])}). "
            "Stop that one, or start this one as a node of its own: in an empty data folder."
        )
    told = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "version": __version__})
    with writing(sql):
        sql.execute(
            "INSERT INTO nodes (node, token, place, told, started_at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (node) DO UPDATE SET place = excluded.place, told = excluded.told,"
            " started_at = excluded.started_at WHERE nodes.token = excluded.token",
            (node.name, node.token, place, told, now),
        )
        token, told = sql.execute("SELECT token, told FROM nodes WHERE node = ?", (node.name,)).fetchone()
    if token != node.token:
        raise DataFolderError(
            f"The database knows {node.name!r} as another data folder ({_told(told)}). Give this one a name "
            f"of its own (storage.node), or, if that folder is lost for good, write it off first: "
            f"`headgate ledger write-off {node.name}`."
        )


def lives(sql: Connection, node: str) -> bool:
    """Say whether a node gives signs of life; waits for one, up to 2.5 s."""
    before = _stamps(sql, node)
    if not before:
        return False
    for _ in range(int(SILENT_S / _LOOK_S)):
        time.sleep(_LOOK_S)
        if _stamps(sql, node) != before:
            return True
    return False


def _stamps(sql: Connection, node: str) -> dict[str, int]:
    rows = sql.execute("SELECT slot, seen_at FROM slots WHERE pid <> 0").fetchall()
    return {slot: seen for slot, seen in rows if belongs(slot, node)}


def roll(sql: Connection) -> list[NodeRow]:
    """Return every node that the database knows, by name."""
    rows = sql.execute("SELECT node, told, started_at FROM nodes ORDER BY node").fetchall()
    slots = sql.execute("SELECT slot, seen_at FROM slots WHERE pid <> 0").fetchall()
    lent = sql.execute(
        "SELECT s.slot, sum(s.amount) FROM slices s JOIN pots p ON p.id = s.pot"
        " WHERE p.kind <> 'tokens' AND p.book = 0 GROUP BY s.slot"
    ).fetchall()
    found = []
    for name, text, started in rows:
        seen = [at for slot, at in slots if belongs(slot, name)]
        out = sum(int(amount) for slot, amount in lent if belongs(slot, name))
        told = json.loads(text)
        found.append(
            NodeRow(
                name,
                told["host"],
                told["pid"],
                told["version"],
                started,
                len(seen),
                max(seen, default=0),
                out,
            )
        )
    return found


def write_off(sql: Connection, node: str) -> int:
    """Book what a lost node may have spent as spent, and forget it; return how many slices were out.

    Its name can be given again. Should it come back after all, its workers are fenced.

    Raises:
        DataFolderError: there is no such node, or it lives.
    """
    if sql.execute("SELECT 1 FROM nodes WHERE node = ?", (node,)).fetchone() is None:
        names = ", ".join(row.name for row in roll(sql)) or "none"
        raise DataFolderError(f"The database knows no node {node!r}; it knows: {names}.")
    if lives(sql, node):
        raise DataFolderError(
            f"The node {node!r} gives signs of life: stop it first. What it has is then booked by its own "
            "next start; only a journal that is lost for good is written off."
        )
    out = 0
    with writing(sql):
        known = sql.execute("SELECT slot FROM slots").fetchall()
        doubts.write_off(sql, {slot for (slot,) in known if belongs(slot, node)})
        for table in ("slices", "slots", "drains"):
            rows = sql.execute(f"SELECT DISTINCT slot FROM {table}").fetchall()
            out += sum(_forget(sql, table, slot) for (slot,) in rows if belongs(slot, node))
        # What it recorded is lost, and what that has cost nobody will ever know, whoever has its name later.
        sql.execute("UPDATE recordings SET state = ? WHERE node = ? AND state = 0", (State.LOST, node))
        sql.execute("UPDATE recordings SET node = '' WHERE node = ?", (node,))
        sql.execute("DELETE FROM nodes WHERE node = ?", (node,))
    return out


def _forget(sql: Connection, table: str, slot: str) -> int:
    """Take a lost slot out of one table; return how many of its slices were out."""
    if table == "slices":
        (out,) = sql.execute("SELECT count(*) FROM slices WHERE slot = ? AND amount > 0", (slot,)).fetchone()
        pots.clear(sql, slot, lost=True)
        return int(out)
    if table == "slots":  # it stays, so that whoever had it finds that somebody else has it now
        sql.execute("UPDATE slots SET epoch = epoch + 1, pid = 0 WHERE slot = ?", (slot,))
    else:
        sql.execute("DELETE FROM drains WHERE slot = ?", (slot,))
    return 0


def _told(text: str) -> str:
    told = json.loads(text)
    return f"process {told['pid']} on {told['host']}"
