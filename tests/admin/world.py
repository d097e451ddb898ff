"""Two accounts with everything in them that the admin API has, and everybody who could ask."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tests.admin.api import Api

from headgate.money.terms import Terms
from headgate.ops import codes, credit, limits, members, projects, spendlimits, tiers
from headgate.ops.accounts import AccountOrder, create_account, list_accounts
from headgate.ops.actors import LOCAL
from headgate.ops.budgets import BudgetOrder, set_budget
from headgate.ops.desk import PageOrder
from headgate.ops.keyrules import KeyOrder
from headgate.ops.keys import create_key, create_service_account, revoke_key
from headgate.ops.secrets import SecretOrder, store_secret
from headgate.process.admin import AdminSettings
from headgate.stores.sql.database import connect

_KEK = b"k" * 32
_DOLLAR = 1_000_000_000
_TOP_UP = 10 * _DOLLAR


class State(NamedTuple):
    """The books at a moment."""

    digest: str  # of all tables but the audit
    audit: int  # rows of that


class World:
    """The API of a folder in which both accounts are; `things[place][kind]` are ids."""

    def __init__(self, folder: Path) -> None:
        self.api = Api(folder, AdminSettings(keks=(_KEK,)), Terms(minimum=1))
        self.things: dict[str, dict[str, str]] = {}
        self.keys: dict[str, str | None] = {"none": None, "root": self.api.root}
        default = list_accounts(LOCAL, self.api.desk, PageOrder()).first_id  # that root means without a name
        spendlimits.put(LOCAL, self.api.desk, "account", default, _DOLLAR)
        first = self._account("A")
        self._place("own", first, self._project(first))
        self._place("sibling", first, self._project(first))
        other = self._account("B")
        self._place("foreign", other, self._project(other))
        self.things["absent"] = {
            name: value[:-4] + "none" if name != "name" else "none"
            for name, value in self.things["own"].items()
        }
        self._people()
        self._sql = connect(folder)
        self._sql.sync_less()
        names = self._sql.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
        self._tables = [name for (name,) in names if name not in {"audit", "sqlite_sequence"}]
        self._known: tuple[int, State] | None = None
        self._first = self._snapshot()
        self.first = self.state()

    def close(self) -> None:
        """Let go of the books."""
        self._sql.close()
        self._first.close()

    # ── what there is ────────────────────────────────────────────────────────────────────────────

    def _account(self, name: str) -> str:
        ref = create_account(LOCAL, self.api.desk, AccountOrder(name=name, prepaid=True)).id
        spendlimits.put(LOCAL, self.api.desk, "account", ref, _DOLLAR)
        paid = credit.TopUpOrder(account=ref, amount=_TOP_UP, reference=f"first of {name}")
        credit.top_up(LOCAL, self.api.desk, paid)
        return ref

    def _project(self, account: str) -> str:
        order = projects.ProjectOrder(name="project", account=account)
        return projects.create_project(LOCAL, self.api.desk, order).id

    def _member(self, account: str, role: str, name: str) -> str:
        email = f"{name}@{account[-8:].lower().replace('_', '-')}.example.com"
        order = members.MemberOrder(email=email, role=role, account=account)
        return members.add_member(LOCAL, self.api.desk, order).id

    def _place(self, place: str, account: str, project: str) -> None:
        desk = self.api.desk
        known = {
            name: things
            for things in self.things.values()
            for name in things
            if things["account_id"] == account
        }
        shared = known.get("account_id")
        person = shared["member_id"] if shared else self._member(account, "developer", "person")
        owner = shared["owner"] if shared else self._member(account, "owner", "first")
        projects.put_project_member(LOCAL, desk, project, person, "member")
        made = create_service_account(LOCAL, desk, project, KeyOrder(name="service"))
        cap = BudgetOrder(scope="project", ref=project, amount=5 * _DOLLAR, unit="day")
        limit = limits.LimitOrder(scope="project", ref=project, model="gpt-4o", rpm=5)
        wish = tiers.LimitRequestOrder(wanted={"tier": "tier3"}, reason="growth", account=account)
        gift = credit.GiftOrder(account=account, amount=_DOLLAR)
        spendlimits.put(LOCAL, desk, "project", project, _DOLLAR)
        spare = KeyOrder(name="spare", kind="admin", project=project, member=owner)
        store_secret(
            LOCAL, desk, (_KEK,), SecretOrder(name="mistral", value="secret", host="https://a.example")
        )
        (code,) = codes.create_codes(LOCAL, desk, codes.CodeOrder(amount=_DOLLAR))
        self.things[place] = {
            "account_id": account, "project_id": project, "member_id": person, "user_id": person,
            "service_account_id": made.member.id, "key_id": made.key.record.id, "owner": owner,
            "budget_id": set_budget(LOCAL, desk, cap).id, "limit_id": limits.set_limit(LOCAL, desk, limit).id,
            "rate_limit_id": "rl-gpt-4o", "request_id": tiers.request_limits(LOCAL, desk, wish).id,
            "grant_id": credit.give(LOCAL, desk, gift).id, "name": "mistral", "code_id": code.record.id,
            "code": code.text, "admin_key_id": create_key(LOCAL, desk, spare).record.id,
            "newcomer": self._member(account, "developer", f"new-{place}"),
        }  # fmt: skip

    # ── who asks ─────────────────────────────────────────────────────────────────────────────────

    def _people(self) -> None:
        own, foreign = self.things["own"], self.things["foreign"]
        for role in ("owner", "admin", "billing", "developer", "viewer", "auditor"):
            member = self._member(own["account_id"], role, role)
            self.keys[role] = self._key(own, member)
            if role == "owner":
                self.keys["narrow"] = self._key(own, member, rights=("projects.read",))
        for role in ("owner", "member"):
            member = self._member(own["account_id"], "developer", f"project-{role}")
            projects.put_project_member(LOCAL, self.api.desk, own["project_id"], member, role)
            self.keys[f"project_{role}"] = self._key(own, member)
        robot = create_service_account(LOCAL, self.api.desk, own["project_id"], KeyOrder(name="robot"))
        self.keys["service"] = self._key(own, robot.member.id)
        self.keys["foreign_owner"] = self._key(foreign, foreign["owner"])
        self.keys["malformed"] = "sk-hg-adm-short"
        self.keys["unknown"] = "sk-hg-adm-" + self.keys["owner"][10:-6][::-1] + self.keys["owner"][-6:]
        self.keys["live"] = self._key(own, own["service_account_id"], kind="live")
        self.keys["expired"] = self._key(own, own["owner"])
        self.keys["revoked"] = self._key(own, own["owner"], name="revoked")
        revoke_key(LOCAL, self.api.desk, "revoked")
        with closing(connect(self.api.folder)) as sql:
            digest = sql.execute("SELECT max(id) - 1 FROM keys").fetchone()[0]
            sql.execute("UPDATE keys SET expires_at = ? WHERE id = ?", (time.time_ns() // 1000 - 1, digest))

    def _key(self, where: dict[str, str], member: str, **order: Any) -> str:
        wanted = {"name": "asker", "kind": "admin", "project": where["project_id"], "member": member, **order}
        return create_key(LOCAL, self.api.desk, KeyOrder(**wanted)).text

    # ── what changes ─────────────────────────────────────────────────────────────────────────────

    def _snapshot(self) -> sqlite3.Connection:
        copy = sqlite3.connect(":memory:")
        self._sql.backup(copy)
        return copy

    def restore(self) -> None:
        """Undo everything since the beginning."""
        if self._known == (self._version(), self.first):
            return
        self._first.backup(self._sql)
        self._known = self._version(), self.first

    def state(self) -> State:
        """Return what there is now; read anew only when somebody has written since."""
        version = self._version()
        if self._known is None or self._known[0] != version:
            self._known = version, self._read()
        return self._known[1]

    def _version(self) -> int:
        """Return a number that another one's commit changes."""
        return int(self._sql.execute("PRAGMA data_version").fetchone()[0])

    def _read(self) -> State:
        digest = hashlib.sha256()
        for name in self._tables:
            digest.update(repr((name, self._sql.execute(f'SELECT * FROM "{name}"').fetchall())).encode())
        return State(digest.hexdigest(), *self._sql.execute("SELECT count(*) FROM audit").fetchone())
