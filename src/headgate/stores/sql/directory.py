"""Every key and what stands behind it, as a server keeps it: compact, and followed change by change.

A million keys are read in about a second and take 250 MB: a row is one text that SQLite has put together,
taken apart when its key is first used. Standard library and msgspec only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from headgate.records import KeyRow
from headgate.values import Ceiling

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headgate.stores.sql.connection import Connection, Cursor

_DEEPEST: Final = 16  # admin keys that made one another
AT_ONCE: Final = 500  # changes that are followed in one go: some 15 ms
FOLLOWED: Final = frozenset({"key", "account", "project", "member", "project_member"})  # kinds of changes
_SHORT: Final = "id, project, member, kind, revoked_at, expires_at, name"
_LONG: Final = (
    _SHORT + ", created_by, rpm, tpm, rpd, tpd, concurrency, models, endpoints, networks, queue_ms, priority,"
    " rotated_at"
)
# Most keys have nothing of their own but a name: their rows are short.
_PLAIN: Final = (
    "rpm | tpm | rpd | tpd | concurrency | queue_ms | rotated_at = 0 AND models || endpoints || networks ="
    " '[][][]' AND priority = 'interactive' AND substr(created_by, 1, 4) <> 'key_'"
)
_TESTS: Final = "CASE WHEN environment = 'test' THEN 1 ELSE 0 END"


class _Questions:
    """What is read, in the words of a database: every row is one JSON text."""

    def __init__(self, sql: Connection) -> None:
        packed = sql.packed
        short_or_long = f"CASE WHEN {_PLAIN} THEN {packed(_SHORT)} ELSE {packed(_LONG)} END"
        old = packed(f"{_LONG}, old_until")
        account = packed("public_id, status, prepaid, tier, multiplier_ppm")
        project = packed(f"public_id, account, archived_at, {_TESTS}")
        self.keys = f"SELECT digest, {short_or_long} FROM keys"
        self.old_keys = f"SELECT old_digest, {old} FROM keys WHERE old_digest IS NOT NULL"
        self.key = f"SELECT {old} FROM keys WHERE id = ?"
        self.makers = f"SELECT public_id, {packed(_LONG)} FROM keys WHERE kind = 'admin'"
        self.accounts = f"SELECT id, {account} FROM accounts"
        self.projects = f"SELECT id, {project} FROM projects"
        self.members = f"SELECT id, {packed('role, project, removed_at')} FROM members"
        self.roles = f"SELECT member, {sql.packed_pairs('project', 'role')} FROM project_members"


class _Key(msgspec.Struct, array_like=True, frozen=True):
    id: int
    project: int
    member: int
    kind: str
    revoked_at: int
    expires_at: int
    name: str
    created_by: str = ""
    rpm: int = 0
    tpm: int = 0
    rpd: int = 0
    tpd: int = 0
    concurrency: int = 0
    models: str = "[]"
    endpoints: str = "[]"
    networks: str = "[]"
    queue_ms: int = 0
    priority: str = "interactive"
    rotated_at: int = 0
    old_until: int = 0

    def ceiling(self) -> Ceiling:
        return Ceiling(
            _strings(self.models),
            _strings(self.endpoints),
            _strings(self.networks),
            self.expires_at,
            self.rpm,
            self.tpm,
            self.rpd,
            self.tpd,
            self.concurrency,
        )


class _Account(msgspec.Struct, array_like=True, frozen=True):
    public_id: str
    status: str
    prepaid: int
    tier: str
    multiplier_ppm: int


class _Project(msgspec.Struct, array_like=True, frozen=True):
    public_id: str
    account: int
    archived_at: int
    is_test: int


class _Member(msgspec.Struct, array_like=True, frozen=True):
    role: str
    project: int
    removed_at: int


_NOBODY: Final = _Member("", 0, 1)
_key = msgspec.json.Decoder(_Key).decode
_account = msgspec.json.Decoder(_Account).decode
_project = msgspec.json.Decoder(_Project).decode
_member = msgspec.json.Decoder(_Member).decode
_roles = msgspec.json.Decoder(dict[str, str]).decode


class Patch(NamedTuple):
    """What has changed, as it was read."""

    keys: dict[bytes, bytes]
    moved: dict[int, tuple[bytes, ...]]  # the digests of the keys that have changed
    makers: dict[str, bytes]
    accounts: dict[int, bytes]
    projects: dict[int, bytes]
    members: dict[int, bytes]
    roles: dict[int, bytes | None]  # by member; None: it has none any more


class Directory:
    """Every key by the digest of its secret, also of its old one. Implements `identity.keys.Directory`.

    Args:
        sql: what it is read from, and from time to time again.
    """

    __slots__ = ("_accounts", "_ask", "_keys", "_makers", "_members", "_moved", "_projects", "_roles", "_sql")

    def __init__(self, sql: Connection) -> None:
        self._sql, self._ask = sql, _Questions(sql)
        self._keys: dict[bytes, bytes] = dict(sql.execute(self._ask.keys))
        self._keys.update(sql.execute(self._ask.old_keys))
        self._moved: dict[int, tuple[bytes, ...]] = {}  # the digests of the keys that have changed since
        self._makers: dict[str, bytes] = dict(sql.execute(self._ask.makers))
        self._accounts: dict[int, bytes] = dict(sql.execute(self._ask.accounts))
        self._projects: dict[int, bytes] = dict(sql.execute(self._ask.projects))
        self._members: dict[int, bytes] = dict(sql.execute(self._ask.members))
        self._roles: dict[int, bytes] = dict(sql.execute(f"{self._ask.roles} GROUP BY member"))

    def __len__(self) -> int:
        """Return how many secrets are known."""
        return len(self._keys)

    def get(self, digest: bytes) -> KeyRow | None:
        """Return the key that has a secret with this digest, with all that decides what it may do."""
        packed = self._keys.get(digest)
        if packed is None:
            return None
        key = _key(packed)
        if key.id in self._moved and digest not in self._moved[key.id]:
            return None  # the secret was replaced
        return self._row(key)

    def now(self, key: int) -> KeyRow | None:
        """Return a key by its internal id, as the database has it now."""
        found = self._sql.execute(self._ask.key, (key,)).fetchone()
        return None if found is None else self._row(_key(found[0]))

    def follow(self, changes: Iterable[tuple[str, str]]) -> None:
        """Read anew what has changed: kinds and public ids, at most `AT_ONCE`."""
        self.apply(self.read(changes))

    def read(self, changes: Iterable[tuple[str, str]]) -> Patch:
        """Read what has changed, and know nothing of it yet. May be in another thread."""
        refs: dict[str, list[str]] = {}
        for kind, ref in changes:
            refs.setdefault(kind, []).append(ref)
        ask, keys, moved, makers = self._ask, dict[bytes, bytes](), dict[int, tuple[bytes, ...]](), {}
        if wanted := refs.get("key"):
            keys = dict(self._some(ask.keys, "WHERE", wanted))
            keys.update(self._some(ask.old_keys, "AND", wanted))
            makers = dict(self._some(ask.makers, "AND", wanted))
            rows = self._some("SELECT id, digest, old_digest FROM keys", "WHERE", wanted)
            moved = {key: tuple(digests) for key, *digests in rows}
        accounts, projects, members = (
            dict(self._some(query, "WHERE", refs[kind])) if kind in refs else {}
            for kind, query in (("account", ask.accounts), ("project", ask.projects), ("member", ask.members))
        )
        return Patch(
            keys, moved, makers, accounts, projects, members, self._read_roles(refs.get("project_member"))
        )

    def apply(self, patch: Patch) -> None:
        """Know what was read."""
        self._keys.update(patch.keys)
        self._makers.update(patch.makers)
        self._moved.update(patch.moved)
        self._accounts.update(patch.accounts)
        self._projects.update(patch.projects)
        self._members.update(patch.members)
        for member, roles in patch.roles.items():
            if roles is None:
                self._roles.pop(member, None)
            else:
                self._roles[member] = roles

    def _read_roles(self, refs: Sequence[str] | None) -> dict[int, bytes | None]:
        """Return the roles of some members in projects; None of those that have none."""
        if not refs:
            return {}
        members = [key for (key,) in self._some("SELECT id FROM members", "WHERE", refs)]
        found: dict[int, bytes | None] = dict.fromkeys(members)
        if members:
            marks = ", ".join("?" * len(members))
            question = f"{self._ask.roles} WHERE member IN ({marks}) GROUP BY member"
            found.update(self._sql.execute(question, members))
        return found

    def _some(self, query: str, glue: str, refs: Sequence[str]) -> Cursor:
        return self._sql.execute(f"{query} {glue} public_id IN ({', '.join('?' * len(refs))})", refs)

    def _row(self, key: _Key) -> KeyRow:
        project = _project(self._projects[key.project])
        account = _account(self._accounts[project.account])
        member = _member(self._members[key.member]) if key.member in self._members else _NOBODY
        roles = _roles(self._roles[key.member]) if key.member in self._roles else {}
        return KeyRow(
            key=key.id,
            project=key.project,
            account=project.account,
            member=key.member,
            kind=key.kind,
            name=key.name,
            revoked=bool(key.revoked_at),
            rotated_at=key.rotated_at,
            old_until=key.old_until,
            ceiling=key.ceiling(),
            makers=tuple(maker.ceiling() for maker in self._made_by(key)),
            queue_ms=key.queue_ms,
            priority="batch" if key.priority == "batch" else "interactive",
            account_id=account.public_id,
            project_id=project.public_id,
            status=account.status,
            archived=bool(project.archived_at),
            tests=bool(project.is_test),
            prepaid=bool(account.prepaid),
            tier=account.tier,
            multiplier_ppm=account.multiplier_ppm,
            removed=bool(key.member and member.removed_at),
            role=member.role,
            role_in=member.project,
            project_role=roles.get(str(key.project), ""),
        )

    def _made_by(self, key: _Key) -> list[_Key]:
        """Return the admin key that made a key, the one that made that, and so on."""
        found: list[_Key] = []
        while key.created_by in self._makers and len(found) < _DEEPEST:
            key = _key(self._makers[key.created_by])
            found.append(key)
        return found


def _strings(text: str) -> tuple[str, ...]:
    return msgspec.json.decode(text, type=tuple[str, ...]) if text != "[]" else ()
