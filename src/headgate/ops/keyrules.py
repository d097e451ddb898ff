"""What a key may be ordered to be, and that it is never more than who makes or changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.errors import CallerError, Conflict, PermissionRefused
from headgate.identity.keys import KINDS, Kind
from headgate.identity.rights import LIMITS, ceiling_of, exceeding, narrow, parse_network
from headgate.identity.roles import ACCOUNT_PERMISSIONS, PERMISSIONS
from headgate.ops.words import check_metadata, check_name, given
from headgate.records import KeyRecord
from headgate.values import MAX_LIMIT, Ceiling, NanoUSD, Operation, WallMicros

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from headgate.ops.actors import Actor
    from headgate.ops.desk import Register

_MAX_QUEUE_MS: Final = 600_000
_MAX_ENTRIES, _MAX_PATTERN = 100, 200
_PRIORITIES: Final = ("interactive", "batch")
Count = Annotated[int, Meta(ge=0, le=MAX_LIMIT)]
Wait = Annotated[int, Meta(ge=0, le=_MAX_QUEUE_MS)]
ENDPOINTS: Final[tuple[str, ...]] = get_args(Operation)


class Cap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The budget that a key is made with."""

    amount: NanoUSD
    unit: Literal["day", "week", "month", "total"] = "month"
    tz: str = "UTC"


class KeyOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The key that somebody wants. What is not given is as far as its maker's own rights go."""

    name: str
    kind: Kind = "live"
    project: str = ""  # public id; empty: the account's first
    member: str = ""  # whose; empty: the actor's own, of LOCAL the gateway's
    models: tuple[str, ...] | UnsetType = UNSET
    endpoints: tuple[str, ...] | UnsetType = UNSET
    networks: tuple[str, ...] | UnsetType = UNSET
    rights: tuple[str, ...] | UnsetType = UNSET  # of an admin key
    rpm: Count | UnsetType = UNSET  # requests per minute; 0: no limit
    tpm: Count | UnsetType = UNSET  # tokens per minute
    rpd: Count | UnsetType = UNSET  # the same per day
    tpd: Count | UnsetType = UNSET
    concurrency: Count | UnsetType = UNSET  # calls at once
    queue_ms: Wait = 0  # how long a call may wait for a limit; 0: 429 at once
    priority: str = "interactive"
    metadata: dict[str, str] = {}
    expires_in_s: Count = 0  # 0: as `expires_at` says
    expires_at: WallMicros | UnsetType = UNSET  # 0: never
    budget: Cap | None = None


class KeyChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall become of a key; what is not given stays."""

    name: str | UnsetType = UNSET
    models: tuple[str, ...] | UnsetType = UNSET
    endpoints: tuple[str, ...] | UnsetType = UNSET
    networks: tuple[str, ...] | UnsetType = UNSET
    rights: tuple[str, ...] | UnsetType = UNSET
    rpm: Count | UnsetType = UNSET
    tpm: Count | UnsetType = UNSET
    rpd: Count | UnsetType = UNSET
    tpd: Count | UnsetType = UNSET
    concurrency: Count | UnsetType = UNSET
    queue_ms: Wait | UnsetType = UNSET
    priority: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    expires_at: WallMicros | UnsetType = UNSET


def drafted(actor: Actor, order: KeyOrder, now: WallMicros) -> dict[str, Any]:
    """Return the members of a new key that its order decides, within the actor's own ceiling.

    Raises:
        CallerError: the order cannot be filled; `param` names the member.
        PermissionRefused: it goes beyond the actor's own rights.
    """
    members = {**msgspec.structs.asdict(actor.ceiling), **given(order)}
    in_s = members.pop("expires_in_s")
    if not 0 <= in_s <= MAX_LIMIT:
        raise CallerError(f"expires_in_s must be between 0 (never) and {MAX_LIMIT}.", param="expires_in_s")
    if in_s:
        members["expires_at"] = now + in_s * 1_000_000
    for name in ("project", "member", "budget"):
        del members[name]
    members["rights"] = order.rights if isinstance(order.rights, tuple) else _own_rights(actor, order.kind)
    if order.kind not in KINDS:
        raise CallerError(f"{order.kind!r} is no kind of key: {', '.join(KINDS)}.", param="kind")
    members = checked(members, now)
    keep_within(actor, Ceiling(*(members[name] for name in Ceiling.__struct_fields__)))
    return members


def _own_rights(actor: Actor, kind: Kind) -> tuple[str, ...]:
    """Return the rights of an admin key that asks for none: all of its maker's."""
    return tuple(sorted(actor.rights)) if kind == "admin" and actor.rights is not None else ()


def checked(members: dict[str, Any], now: WallMicros) -> dict[str, Any]:
    """Return members of a key as they are stored.

    Raises:
        CallerError: one cannot be; `param` names it.
    """
    done = dict(members)
    for name in members.keys() & _CHECKS.keys():
        done[name] = _CHECKS[name](name, members[name])
    if done.get("expires_at") and done["expires_at"] <= now:
        raise CallerError("expires_at lies in the past.", param="expires_at")
    return done


def keep_within(actor: Actor, wanted: Ceiling) -> None:
    """Refuse what goes beyond an actor's own ceiling.

    Raises:
        PermissionRefused: `param` names the member.
    """
    beyond = exceeding(wanted, actor.ceiling)
    if beyond:
        raise PermissionRefused(
            f"{beyond} goes beyond what {actor.id} itself may ({getattr(actor.ceiling, beyond)}): a key "
            "never has a right that its maker lacks.",
            param=beyond,
            code="insufficient_permissions",
        )


def keep_change_within(actor: Actor, register: Register, after: KeyRecord, changed: Collection[str]) -> None:
    """Refuse a change of a key by which it gets more than an actor has, or the admin key that made it.

    Raises:
        PermissionRefused: it is the actor's; `param` names the member.
        Conflict: it is the other key's.
    """
    keep_within(actor, _touched(after, changed, actor.ceiling))
    limit = makers_ceiling(register, after)
    beyond = "models" if limit is None else exceeding(_touched(after, changed, limit), limit)
    if beyond:
        bound = getattr(limit, beyond) if limit is not None else "nothing"
        raise Conflict(
            f"The key {after.id} was made by {after.created_by}, whose {beyond} is {bound}: a key never has "
            "a right that its maker lacks.",
            param=beyond,
        )


def _touched(after: KeyRecord, changed: Collection[str], limit: Ceiling) -> Ceiling:
    """Return a changed key's ceiling, and the limit in what did not change."""
    kept = {name: value for name, value in msgspec.structs.asdict(limit).items() if name not in changed}
    return msgspec.structs.replace(ceiling_of(after), **kept)


def makers_ceiling(register: Register, record: KeyRecord) -> Ceiling | None:
    """Return what all the admin keys allow by which a key was made; None: nothing is left."""
    limit: Ceiling | None = Ceiling()
    for maker in makers(register, record):
        limit = narrow(ceiling_of(maker), limit) if limit is not None else None
    return limit


def makers(register: Register, record: KeyRecord) -> list[KeyRecord]:
    """Return the admin key that made a key, the one that made that, and so on."""
    found: list[KeyRecord] = []
    while record.created_by.startswith("key_"):
        maker = register.get(KeyRecord, id=record.created_by)
        if maker is None:
            break
        found.append(maker)
        record = maker
    return found


def check_rights(actor: Actor, rights: tuple[str, ...], member: str) -> None:
    """Refuse an admin key more rights than who makes it has.

    A key of somebody else can have only what its maker may everywhere in the account: its holder may be
    in other projects.

    Raises:
        CallerError: there is no such right.
        PermissionRefused: the maker lacks one.
    """
    known = PERMISSIONS if not (actor.account or member) else ACCOUNT_PERMISSIONS
    unknown = sorted(set(rights) - known)
    if unknown:
        raise CallerError(
            f"{', '.join(unknown)[:200]}: no such right. There are: {', '.join(sorted(known))}.",
            param="rights",
        )
    own = bool(member) and member == actor.member
    if own and not rights and actor.rights is None:
        return  # all that its holder has, whatever that will be
    has = actor.permissions.union(*actor.projects.values()) if own else actor.permissions
    lacking = sorted((set(rights) or known) - has)
    if lacking:
        raise PermissionRefused(
            f"{actor.id} lacks {', '.join(lacking)}: a key never has a right that its maker lacks.",
            param="rights",
            code="insufficient_permissions",
        )


def may_make_own(actor: Actor, member: str) -> bool:
    """Say whether an actor may make and change admin keys of a member because that is itself."""
    if not member or member != actor.member:
        return False
    return actor.rights is None or bool(actor.rights & {"keys.own", "admin_keys.write"})


def manages_own(actor: Actor, record: KeyRecord) -> bool:
    """Say whether a key is an admin key of the actor's own member, that it may manage."""
    return record.kind == "admin" and may_make_own(actor, record.member)


# ── members of a key, one by one ────────────────────────────────────────────────────────────────


def _limit(name: str, value: int) -> int:
    if not 0 <= value <= MAX_LIMIT:
        raise CallerError(f"{name} must be between 0 (none) and {MAX_LIMIT}.", param=name)
    return value


def _instant(name: str, value: int) -> int:
    if not 0 <= value < 2**62:
        raise CallerError(f"{name} is microseconds since 1970, or 0 for never.", param=name)
    return value


def _queue(name: str, value: int) -> int:
    if not 0 <= value <= _MAX_QUEUE_MS:
        raise CallerError(f"{name} must be between 0 (no waiting) and {_MAX_QUEUE_MS}.", param=name)
    return value


def _priority(name: str, value: str) -> str:
    if value not in _PRIORITIES:
        raise CallerError(f"{value[:50]!r} is no priority: {', '.join(_PRIORITIES)}.", param=name)
    return value


def _patterns(name: str, value: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in _few(name, value):
        if not 1 <= len(pattern) <= _MAX_PATTERN or not pattern.isprintable() or set(pattern) & set("?[] "):
            raise CallerError(
                f"{pattern[:50]!r} is no pattern of models: a name in which `*` stands for any characters.",
                param=name,
            )
    return tuple(dict.fromkeys(value))


def _operations(name: str, value: tuple[str, ...]) -> tuple[str, ...]:
    for operation in _few(name, value):
        if operation not in ENDPOINTS:
            raise CallerError(f"{operation[:50]!r} is no endpoint: {', '.join(ENDPOINTS)}.", param=name)
    return tuple(dict.fromkeys(value))


def _cidrs(name: str, value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(str(parse_network(text)) for text in _few(name, value)))
    except ValueError as fault:
        raise CallerError(
            f"{fault}: networks are addresses or CIDRs such as 10.0.0.0/8 or 2001:db8::/32.", param=name
        ) from fault


def _few(name: str, value: tuple[str, ...]) -> tuple[str, ...]:
    if len(value) > _MAX_ENTRIES:
        raise CallerError(f"{name} has at most {_MAX_ENTRIES} entries.", param=name)
    return value


def _pairs(_: str, value: dict[str, str]) -> dict[str, str]:
    check_metadata(value)
    return value


_CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    **dict.fromkeys(LIMITS, _limit),
    "name": lambda name, value: check_name(value, name),
    "models": _patterns,
    "endpoints": _operations,
    "networks": _cidrs,
    "rights": _few,
    "queue_ms": _queue,
    "priority": _priority,
    "metadata": _pairs,
    "expires_at": _instant,
}
