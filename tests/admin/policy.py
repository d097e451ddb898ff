"""Who may do what over HTTP, written by hand from what the roles are for; never read from the code under test.

Principals of the account A: its roles, an owner and a member of its project `own` (both developers), a service
account of that project, and an admin key of A's owner that may only read projects. `root` was made by who owns
the files; `foreign_owner` owns the account B.
"""

from __future__ import annotations

from typing import NamedTuple

ROLES = ("owner", "admin", "billing", "developer", "viewer", "auditor")
IN_ACCOUNT = (*ROLES, "project_owner", "project_member", "narrow", "service")
NO_ACTOR = ("none", "malformed", "unknown", "expired", "revoked", "live")
PRINCIPALS = (*NO_ACTOR, *IN_ACCOUNT, "foreign_owner", "root")

# Each permission: who has it in all of A, and who beyond them in the project `own` alone.
_READERS = "owner admin billing viewer auditor"
_DEVELOPERS = "developer project_owner project_member"
HOLDERS: dict[str, tuple[str, str]] = {
    "account.read": (f"{_READERS} {_DEVELOPERS}", ""),
    "account.write": ("owner admin", ""),
    "projects.read": (f"{_READERS} narrow", "project_owner project_member service"),
    "projects.write": ("owner admin", "project_owner"),
    "members.read": (_READERS, "project_owner"),
    "members.write": ("owner admin", "project_owner"),
    "audit.read": ("owner admin auditor", ""),
    "keys.read": (_READERS, "project_owner"),
    "keys.write": ("owner admin", "project_owner"),
    "admin_keys.read": ("owner admin auditor", ""),
    "admin_keys.write": ("owner admin", ""),
    "budgets.read": (_READERS, "project_owner project_member service"),
    "budgets.write": ("owner admin billing", "project_owner"),
    "limits.read": (f"{_READERS} {_DEVELOPERS}", "service"),
    "limits.write": ("owner admin", "project_owner"),
    "usage.read": (_READERS, "project_owner project_member service"),
    "credit.read": ("owner admin billing auditor", ""),
    "credit.write": ("owner admin billing", ""),
    "gateway": ("", ""),
    # What is not one permission:
    "own account": (" ".join(IN_ACCOUNT), ""),  # that one's own account is there is no secret
    "any key": (" ".join(IN_ACCOUNT), ""),
    "own keys": (f"{_READERS} {_DEVELOPERS} service", ""),  # lists: all keys, or those of one's own
    "keys there": (_READERS, "project_owner project_member service"),  # the same in a project that one sees
    "make a key": ("owner admin", "project_owner project_member service"),  # in a project: for oneself, too
    "people": (f"{_READERS} {_DEVELOPERS} service", ""),  # everybody but a key that has few rights
    "some usage": (f"{_READERS} project_owner project_member service", ""),  # or of one's projects
    "limits there": (_READERS, "project_owner project_member service"),  # who sees the project and its limits
}


class Rule(NamedTuple):
    """What an operation takes: a permission, and the one without which the thing is not even there."""

    needs: str
    sees: str = "own account"
    thing: str = ""  # project: one of A's has its own holders; account: it belongs to all of A; "": none


_A, _P = "/admin/v1", "/v1/organization"
_PROJECTS = f"{_P}/projects"
_ONE = f"{_PROJECTS}/{{project_id}}"
POLICY: dict[str, Rule] = {
    f"GET {_A}/accounts": Rule("account.read"),
    f"POST {_A}/accounts": Rule("gateway"),
    f"GET {_A}/accounts/{{account_id}}": Rule("account.read", thing="account"),
    f"PATCH {_A}/accounts/{{account_id}}": Rule("account.write", thing="account"),
    f"PUT {_A}/accounts/{{account_id}}/tier": Rule("gateway", thing="account"),
    f"GET {_A}/projects": Rule("any key", thing="account"),
    f"POST {_A}/projects": Rule("projects.write", thing="account"),
    f"GET {_A}/projects/{{project_id}}": Rule("projects.read", "projects.read", "project"),
    f"PATCH {_A}/projects/{{project_id}}": Rule("projects.write", "projects.read", "project"),
    f"POST {_A}/projects/{{project_id}}/archive": Rule("projects.write", "projects.read", "project"),
    f"GET {_A}/projects/{{project_id}}/members": Rule("members.read", "projects.read", "project"),
    f"PUT {_A}/projects/{{project_id}}/members/{{member_id}}": Rule("members.write", "projects.read", "project"),
    f"DELETE {_A}/projects/{{project_id}}/members/{{member_id}}": Rule("members.write", "projects.read", "project"),
    f"POST {_A}/projects/{{project_id}}/service_accounts": Rule("members.write", "projects.read", "project"),
    f"GET {_A}/members": Rule("members.read", thing="account"),
    f"POST {_A}/members": Rule("members.write", thing="account"),
    f"GET {_A}/members/{{member_id}}": Rule("members.read", "members.read", "account"),
    f"PATCH {_A}/members/{{member_id}}": Rule("members.write", "members.read", "account"),
    f"DELETE {_A}/members/{{member_id}}": Rule("members.write", "members.read", "account"),
    f"GET {_A}/audit": Rule("audit.read", thing="account"),
    f"GET {_A}/events": Rule("usage.read", thing="account"),
    f"GET {_A}/usage": Rule("some usage", thing="account"),
    f"GET {_A}/keys": Rule("own keys", thing="account"),
    f"GET {_A}/key_ages": Rule("own keys", thing="account"),
    f"POST {_A}/keys": Rule("make a key", "projects.read", "project"),
    f"GET {_A}/keys/{{key_id}}": Rule("keys.read", "keys.read", "project"),
    f"PATCH {_A}/keys/{{key_id}}": Rule("keys.write", "keys.read", "project"),
    f"POST {_A}/keys/{{key_id}}/rotate": Rule("keys.write", "keys.read", "project"),
    f"DELETE {_A}/keys/{{key_id}}": Rule("keys.write", "keys.read", "project"),
    f"GET {_A}/budgets": Rule("budgets.read", thing="account"),
    f"POST {_A}/budgets": Rule("budgets.write", "budgets.read", "project"),
    f"GET {_A}/budgets/{{budget_id}}": Rule("budgets.read", "budgets.read", "project"),
    f"PATCH {_A}/budgets/{{budget_id}}": Rule("budgets.write", "budgets.read", "project"),
    f"DELETE {_A}/budgets/{{budget_id}}": Rule("budgets.write", "budgets.read", "project"),
    f"GET {_A}/limits": Rule("limits.read", thing="account"),
    f"POST {_A}/limits": Rule("limits.write", "limits.read", "project"),
    f"GET {_A}/limits/{{limit_id}}": Rule("limits.read", "limits.read", "project"),
    f"DELETE {_A}/limits/{{limit_id}}": Rule("limits.write", "limits.read", "project"),
    f"GET {_A}/credit": Rule("credit.read", thing="account"),
    f"GET {_A}/credit/grants": Rule("credit.read", thing="account"),
    f"POST {_A}/credit/grants": Rule("gateway", thing="account"),
    f"GET {_A}/credit/postings": Rule("credit.read", thing="account"),
    f"POST {_A}/credit/topups": Rule("gateway", thing="account"),
    f"POST {_A}/credit/refunds": Rule("gateway", thing="account"),
    f"POST {_A}/credit/adjustments": Rule("gateway", "credit.read", "account"),
    f"GET {_A}/codes": Rule("gateway"),
    f"POST {_A}/codes": Rule("gateway"),
    f"GET {_A}/codes/{{code_id}}": Rule("gateway"),
    f"DELETE {_A}/codes/{{code_id}}": Rule("gateway"),
    f"POST {_A}/redemptions": Rule("credit.write", thing="account"),
    f"GET {_A}/tiers": Rule("any key"),
    f"GET {_A}/limit_requests": Rule("limits.read", thing="account"),
    f"POST {_A}/limit_requests": Rule("limits.read", thing="account"),
    f"GET {_A}/limit_requests/{{request_id}}": Rule("limits.read", "limits.read", "account"),
    f"POST {_A}/limit_requests/{{request_id}}/decision": Rule("gateway", "account.read", "account"),
    f"GET {_A}/signups": Rule("gateway"),
    f"GET {_A}/payments": Rule("gateway"),
    f"GET {_A}/secrets": Rule("gateway"),
    f"POST {_A}/secrets": Rule("gateway"),
    f"DELETE {_A}/secrets/{{name}}": Rule("gateway"),
    f"GET {_PROJECTS}": Rule("any key"),
    f"POST {_PROJECTS}": Rule("projects.write"),
    f"GET {_ONE}": Rule("projects.read", "projects.read", "project"),
    f"POST {_ONE}": Rule("projects.write", "projects.read", "project"),
    f"POST {_ONE}/archive": Rule("projects.write", "projects.read", "project"),
    f"GET {_ONE}/users": Rule("members.read", "projects.read", "project"),
    f"POST {_ONE}/users": Rule("members.write", "projects.read", "project"),
    f"GET {_ONE}/users/{{user_id}}": Rule("members.read", "projects.read", "project"),
    f"POST {_ONE}/users/{{user_id}}": Rule("members.write", "projects.read", "project"),
    f"DELETE {_ONE}/users/{{user_id}}": Rule("members.write", "projects.read", "project"),
    f"GET {_P}/users": Rule("members.read"),
    f"GET {_P}/users/{{user_id}}": Rule("members.read", "members.read", "account"),
    f"POST {_P}/users/{{user_id}}": Rule("members.write", "members.read", "account"),
    f"DELETE {_P}/users/{{user_id}}": Rule("members.write", "members.read", "account"),
    f"GET {_ONE}/service_accounts": Rule("members.read", "projects.read", "project"),
    f"POST {_ONE}/service_accounts": Rule("members.write", "projects.read", "project"),
    f"GET {_ONE}/service_accounts/{{service_account_id}}": Rule("members.read", "members.read", "project"),
    f"POST {_ONE}/service_accounts/{{service_account_id}}": Rule("members.write", "members.read", "project"),
    f"DELETE {_ONE}/service_accounts/{{service_account_id}}": Rule("members.write", "members.read", "project"),
    f"POST {_ONE}/service_accounts/{{service_account_id}}/api_keys": Rule("keys.write", "members.read", "project"),
    f"GET {_ONE}/api_keys": Rule("keys there", "projects.read", "project"),
    f"GET {_ONE}/api_keys/{{key_id}}": Rule("keys.read", "keys.read", "project"),
    f"POST {_ONE}/api_keys/{{key_id}}": Rule("keys.write", "keys.read", "project"),
    f"DELETE {_ONE}/api_keys/{{key_id}}": Rule("keys.write", "keys.read", "project"),
    f"GET {_P}/admin_api_keys": Rule("people"),
    f"POST {_P}/admin_api_keys": Rule("people"),
    f"GET {_P}/admin_api_keys/{{key_id}}": Rule("admin_keys.read", "admin_keys.read", "account"),
    f"DELETE {_P}/admin_api_keys/{{key_id}}": Rule("admin_keys.write", "admin_keys.read", "account"),
    f"GET {_ONE}/rate_limits": Rule("limits there", "projects.read", "project"),
    f"POST {_ONE}/rate_limits/{{rate_limit_id}}": Rule("limits.write", "projects.read", "project"),
    f"GET {_P}/spend_limit": Rule("budgets.read"),
    f"POST {_P}/spend_limit": Rule("budgets.write"),
    f"DELETE {_P}/spend_limit": Rule("budgets.write"),
    f"GET {_ONE}/spend_limit": Rule("budgets.read", "budgets.read", "project"),
    f"POST {_ONE}/spend_limit": Rule("budgets.write", "budgets.read", "project"),
    f"DELETE {_ONE}/spend_limit": Rule("budgets.write", "budgets.read", "project"),
    **{
        f"GET {_P}/usage/{kind}": Rule("some usage")
        for kind in (
            "completions", "embeddings", "moderations", "images", "audio_speeches", "audio_transcriptions",
            "vector_stores", "code_interpreter_sessions", "file_search_calls", "web_search_calls", "decisions",
        )
    },
    f"GET {_P}/costs": Rule("some usage"),
}  # fmt: skip
PUBLIC = (f"POST {_A}/signup", f"POST {_A}/signup/verify", f"POST {_A}/webhooks/stripe")


def has(principal: str, permission: str, place: str) -> bool:
    """Say whether a principal has a permission where a thing is: own, sibling (both in A), foreign, absent."""
    if principal == "root":
        return True
    if principal == "foreign_owner":
        return place == "foreign" and (permission != "gateway")
    everywhere, there = HOLDERS[permission]
    return place in {"own", "sibling"} and (
        principal in everywhere.split() or (place == "own" and principal in there.split())
    )


def verdict(route: str, principal: str, place: str) -> int:
    """Return the status that is due: 401, 403, 404, or 200 for whatever follows once it is allowed."""
    rule = POLICY[route]
    if principal in NO_ACTOR:
        return 403 if principal == "live" else 401
    if not rule.thing:  # nothing that could be somebody else's
        asker = "owner" if principal == "foreign_owner" else principal
        if not has(asker, rule.needs, "sibling"):  # what one has in a project alone is not enough
            return 403
        return 404 if place == "absent" else 200
    if place == "absent":
        return 404
    scope = "sibling" if rule.thing == "account" and place == "own" else place
    if has(principal, rule.needs, scope):
        return 200
    return 403 if has(principal, rule.sees, scope) else 404
