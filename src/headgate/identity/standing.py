"""Whether a key may call now, and as whom: the key itself, and all that stands behind it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.errors import AuthenticationFailed, CallerError, PermissionRefused
from headgate.identity.rights import matcher, narrow
from headgate.identity.roles import PROJECT_ROLES, ROLES, SERVICE
from headgate.values import Book, Ceiling, Principal

if TYPE_CHECKING:
    from headgate.records import KeyRow
    from headgate.values import WallMicros

HOW: Final = "Make a key with `headgate keys create`; `headgate keys list` shows the ones there are."
_MAKES_CALLS: Final = "calls.make"


def ceiling_now(row: KeyRow) -> Ceiling | None:
    """Return what a key may do within what those may that it comes from; None: nothing is left."""
    ceiling: Ceiling | None = row.ceiling
    for maker in row.makers:
        ceiling = narrow(ceiling, maker) if ceiling is not None else None
    return ceiling


def principal_of(row: KeyRow, ceiling: Ceiling, *, playing: bool = False) -> Principal:
    """Return who a key stands for.

    Args:
        row: of the secret that was presented.
        ceiling: of `ceiling_now`.
        playing: the simulator answers live keys too.
    """
    ends = [instant for instant in (ceiling.expires_at, row.old_until) if instant]
    return Principal(
        key=row.key,
        project=row.project,
        account=row.account,
        member=row.member,
        book=Book.SIM if playing or row.tests or row.kind == "test" else Book.REAL,
        name=row.name,
        rpm=ceiling.rpm,
        tpm=ceiling.tpm,
        concurrency=ceiling.concurrency,
        expires_at=min(ends, default=0),
        account_id=row.account_id,
        project_id=row.project_id,
        rpd=ceiling.rpd,
        tpd=ceiling.tpd,
        models=ceiling.models,
        endpoints=ceiling.endpoints,
        networks=ceiling.networks,
        queue_ms=row.queue_ms,
        priority=row.priority,
        prepaid=row.prepaid,
        tier=row.tier,
        multiplier_ppm=row.multiplier_ppm,
    )


def halted(row: KeyRow) -> CallerError | None:
    """Return why a key may make no calls, whatever it is presented for; None: it may."""
    if row.revoked:
        return AuthenticationFailed(f"This key has been revoked. {HOW}", code="invalid_api_key")
    if row.kind == "admin":
        return PermissionRefused(
            "This is an admin key: it manages the gateway and makes no calls. Use a live or a test key. "
            + HOW,
            code="admin_key_refused",
        )
    if row.status != "active":
        return AuthenticationFailed(
            f"The account associated with this API key is {row.status}. Ask who runs this gateway.",
            code="account_deactivated",
        )
    if row.archived:
        return AuthenticationFailed(
            f"The project {row.project_id} of this API key is archived. Use a key of another project.",
            code="not_authorized_invalid_project",
        )
    if not _holder_may(row):
        return AuthenticationFailed(
            "Whose key this is may no longer have keys in its project. Ask an owner of the account, or use "
            "another key.",
            code="invalid_api_key",
        )
    return None


def ended(row: KeyRow | None, principal: Principal, began: WallMicros, now: WallMicros) -> CallerError | None:
    """Return why a call that runs must end, by what its key is now; None: it goes on.

    Args:
        row: of its key; None: as it began.
        principal: who it began as.
        began: when it began.
        now: wall time.
    """
    if row is None:
        if principal.expires_at and principal.expires_at <= now:
            return AuthenticationFailed("This key has expired while the call ran.", code="invalid_api_key")
        return None
    refusal = halted(row)
    if refusal is not None:
        return refusal
    ceiling = ceiling_now(row)
    if ceiling is None or (ceiling.expires_at and ceiling.expires_at <= now):
        return AuthenticationFailed("This key has expired while the call ran.", code="invalid_api_key")
    if began < row.rotated_at and row.old_until <= now:
        return AuthenticationFailed(
            "This key was given a new secret while the call ran, and its old one is no longer valid.",
            code="invalid_api_key",
        )
    return None


def allow(principal: Principal, operation: str, model: str) -> None:
    """Let a call pass that its key allows.

    Raises:
        PermissionRefused: another endpoint or model; says which it may use, and how to change that.
    """
    if principal.endpoints and operation not in principal.endpoints:
        raise PermissionRefused(
            f"You have insufficient permissions for this operation. The key `{principal.name}` may use these "
            f"endpoints: {', '.join(principal.endpoints)}; this is {operation}. "
            + _change(principal, "endpoints"),
            code="insufficient_permissions",
        )
    if not may_use(principal, model):
        shown = model if len(model) <= 100 else model[:100] + "..."
        raise PermissionRefused(
            f"Project `{principal.project_id}` does not have access to model `{shown}`: the key "
            f"`{principal.name}` may use {', '.join(principal.models)}. {_change(principal, 'models')}",
            code="model_not_found",
        )


def may_use(principal: Principal, model: str) -> bool:
    """Say whether a key allows a model, as callers name it."""
    return not principal.models or matcher(principal.models)(model) is not None


def _change(principal: Principal, what: str) -> str:
    return f"Use another key, or change this one: `headgate keys change '{principal.name}' --{what} ...`."


def _holder_may(row: KeyRow) -> bool:
    """Say whether who holds a key may still have it in its project."""
    if not row.member:
        return True
    if row.removed:
        return False
    if row.role == SERVICE:
        return row.role_in == row.project
    return _MAKES_CALLS in ROLES.get(row.role, ()) or _MAKES_CALLS in PROJECT_ROLES.get(row.project_role, ())
