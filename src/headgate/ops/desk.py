"""What an operation works with: one transaction, in which its audit row and its change are written too.

`with desk.writing(actor, "key.created", "key") as deed:` begins one. When the block ends, what it did is
committed with one row of the audit; when it raises a `GatewayError`, nothing of it stays but a row that
says `refused`. So nothing is ever done without a trace, and where the trace cannot be written, nothing
is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from headgate.errors import CallerError, GatewayError, PermissionRefused
from headgate.money.terms import DEFAULT_TERMS, Terms
from headgate.money.tiers import load_tiers
from headgate.ops.actors import absent, authorise, printable
from headgate.records import AuditRecord, PaymentRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from headgate.money.tiers import Tier
    from headgate.ops.actors import Actor, Place
    from headgate.ops.creditbooks import CreditBooks
    from headgate.ports import Clock
    from headgate.records import Above, Below, KeyRecord
    from headgate.values import WallMicros

R = TypeVar("R", bound=msgspec.Struct)
T = TypeVar("T")
Value: TypeAlias = "str | int | Sequence[str] | Below | Above"
MOST = 100  # rows of one page
_REFUSED_TEXT = 300


class PageOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows of a list: as OpenAI's lists, `after` and `before` are ids of rows."""

    limit: Annotated[int, Meta(ge=1, le=MOST)] = 20
    after: str = ""
    before: str = ""
    order: Literal["asc", "desc"] = "asc"  # oldest first, or newest


class Page(msgspec.Struct, frozen=True):
    """Rows of a list, and whether there are more in the direction that was read."""

    data: Sequence[Any]
    has_more: bool = False

    @property
    def first_id(self) -> str:
        """Return the id of the first row, to read what is before it."""
        return _cursor(self.data[0]) if self.data else ""

    @property
    def last_id(self) -> str:
        """Return the id of the last row, to read on after it."""
        return _cursor(self.data[-1]) if self.data else ""


def _cursor(record: Any) -> str:
    return str(record.event if isinstance(record, PaymentRecord) else record.id)


class Register(Protocol):
    """What people manage, inside one transaction. Kinds are the records' classes; ids are public."""

    @property
    def credit(self) -> CreditBooks:
        """Return what moves credit, in this transaction."""
        ...

    def get(self, kind: type[R], /, **where: str | int | bytes) -> R | None:
        """Return the only record whose members have these values, or None."""
        ...

    def all(self, kind: type[R], /, **where: Value) -> list[R]:
        """Return every record whose members have these values (one of a sequence), the oldest first."""
        ...

    def page(self, kind: type[R], page: PageOrder, where: Mapping[str, Value]) -> list[R]:
        """Return at most `limit` + 1 of them from a cursor on, in the page's order.

        Raises:
            LookupError: there is no such cursor.
        """
        ...

    def add(self, record: R, **hidden: object) -> R:
        """Store a new record and return it with its id; `hidden` are columns that no record has."""
        ...

    def put(self, record: R, **hidden: object) -> None:
        """Store a record in place of the one with its id."""
        ...

    def remove(self, record: msgspec.Struct) -> None:
        """Remove a record."""
        ...

    def rotate(self, record: KeyRecord, digest: bytes, *, keep_old: bool) -> None:
        """Give a key a new digest, keeping the one that it has as its old one, or none."""
        ...

    def changed(self, kind: str, ref: str, at: WallMicros) -> None:
        """Tell running servers that a thing has changed."""
        ...


class AdminStore(Protocol):
    """Where what people manage is kept. One transaction at a time."""

    def reading(self) -> AbstractContextManager[Register]:
        """Begin a transaction that only reads."""
        ...

    def writing(self) -> AbstractContextManager[Register]:
        """Begin one that writes, alone: committed at the end of the block, undone by any exception."""
        ...


class Deed:
    """One operation on its way: what it is about, and what it has changed so far."""

    __slots__ = ("account", "action", "actor", "at", "detail", "kind", "ref", "register")

    def __init__(self, actor: Actor, action: str, ref: str, at: WallMicros) -> None:
        self.actor = actor
        self.action = action  # key.created: the kind of thing, and what becomes of it
        self.kind = action.partition(".")[0]
        self.ref = ref
        self.at = at
        self.account = actor.account
        self.detail: dict[str, object] = {}
        self.register: Register

    def find(self, kind: type[R], thing: str, ref: str) -> R:
        """Return a record by its id, to be authorised next.

        Raises:
            NotFound: there is none.
        """
        found = self.register.get(kind, id=ref)
        if found is None:
            raise absent(thing, ref)
        return found

    def allow(self, permission: str, place: Place, thing: str = "", ref: str = "") -> None:
        """Authorise the actor, in whose account the thing is from now on."""
        authorise(self.actor, permission, place, thing, ref)
        self.account = place.account

    def grant(self, permissions: frozenset[str], place: Place) -> None:
        """Let the actor give, or take, rights that it has itself.

        Raises:
            PermissionRefused: it lacks some of them.
        """
        lacking = permissions - self.actor.everything(place)
        if lacking:
            raise PermissionRefused(
                f"{self.actor.id} lacks rights that are given or taken here: {', '.join(sorted(lacking))}.",
                code="insufficient_permissions",
            )

    def add(self, record: R, **hidden: object) -> R:
        """Store a new record; tell of it."""
        made = self.register.add(record, **hidden)
        self._note(made, _said(made))
        return made

    def put(self, before: R, after: R, **hidden: object) -> R:
        """Store a record in place of what it was; tell what changed."""
        self.register.put(after, **hidden)
        old, new = (msgspec.structs.asdict(record) for record in (before, after))
        self._note(
            after,
            {
                name: [old[name], value]
                for name, value in new.items()
                if old[name] != value and not isinstance(value, bytes)
            },
        )
        return after

    def remove(self, record: R) -> R:
        """Remove a record; tell what it was."""
        self.register.remove(record)
        self._note(record, _said(record))
        return record

    def _note(self, record: msgspec.Struct, said: dict[str, object]) -> None:
        kind, ref = _KINDS.get(type(record).__name__, self.kind), str(getattr(record, "id", ""))
        self.register.changed(kind, ref, self.at)
        if kind == self.kind and not self.detail:  # what it is about; the rest came with it
            self.ref, self.detail = ref, said
        else:
            self.detail[f"{kind} {ref}"] = said

    def row(self, outcome: str) -> AuditRecord:
        """Return what the audit says of this."""
        return AuditRecord(
            at=self.at,
            account=self.account if outcome == "done" else self.actor.account,
            actor=self.actor.id,
            action=self.action,
            kind=self.kind,
            ref=printable(self.ref),
            outcome=outcome,
            detail=self.detail,
        )

    def refusal(self, error: GatewayError) -> AuditRecord:
        """Return what the audit says of this when it was refused."""
        self.detail = {"status": error.http_status, "message": error.message[:_REFUSED_TEXT]}
        if error.param:
            self.detail["param"] = error.param
        return self.row("refused")


class Desk:
    """What the operations of one process work with.

    Args:
        store: what people manage.
        clock: the time.
        pepper: under which secrets of keys are kept.
        terms: what a new account begins with, and what it may pay in.
        tiers: that accounts are promoted to, the cheapest first.
    """

    __slots__ = ("_store", "clock", "pepper", "terms", "tiers")

    def __init__(
        self,
        store: AdminStore,
        clock: Clock,
        pepper: bytes = b"",
        terms: Terms = DEFAULT_TERMS,
        tiers: Sequence[Tier] | None = None,
    ) -> None:
        self._store = store
        self.clock = clock
        self.pepper = pepper
        self.terms = terms
        self.tiers = load_tiers() if tiers is None else tiers

    def reading(self) -> AbstractContextManager[Register]:
        """Begin an operation that changes nothing."""
        return self._store.reading()

    def asking(self) -> AbstractContextManager[Register]:
        """Begin a step that only asks running servers for something: it leaves no trace in the audit."""
        return self._store.writing()

    @contextmanager
    def writing(self, actor: Actor, action: str, ref: str = "") -> Iterator[Deed]:
        """Begin an operation: one transaction with one row of the audit, done or refused."""
        deed = Deed(actor, action, ref, self.clock.wall())
        try:
            with self._store.writing() as register:
                deed.register = register
                yield deed
                register.add(deed.row("done"))
        except GatewayError as error:
            with self._store.writing() as register:
                register.add(deed.refusal(error))
            error.audited = True
            raise

    def refused(self, actor: Actor, action: str, error: GatewayError) -> None:
        """Write down that something was refused before it began, if that is not written yet."""
        if not error.audited:
            with self._store.writing() as register:
                register.add(Deed(actor, action, "", self.clock.wall()).refusal(error))
            error.audited = True

    def page(self, register: Register, kind: type[R], page: PageOrder, /, **where: Value) -> Page:
        """Return a page of a list.

        Raises:
            CallerError: the page is none; `param` names the member.
        """
        if not 1 <= page.limit <= MOST:
            raise CallerError(f"limit must be between 1 and {MOST}.", param="limit")
        if page.after and page.before:
            raise CallerError("Give `after` or `before`, not both.", param="before")
        try:
            rows = register.page(kind, page, where)
        except LookupError as fault:
            param = "after" if page.after else "before"
            raise CallerError(f"The cursor `{param}` is none of this list.", param=param) from fault
        more = len(rows) > page.limit
        rows = rows[: page.limit]
        return Page(rows[::-1] if page.before else rows, more)


_KINDS = {
    "AccountRecord": "account",
    "ProjectRecord": "project",
    "MemberRecord": "member",
    "ProjectMemberRecord": "project_member",
    "KeyRecord": "key",
    "BudgetRecord": "budget",
    "LimitRecord": "limit",
    "SecretRecord": "secret",
    "CodeRecord": "code",
    "SignupRecord": "signup",
    "LimitRequestRecord": "limit_request",
}


def every(fetch: Callable[[PageOrder], Page]) -> Iterator[Any]:
    """Yield every row of a list, the oldest first.

    Args:
        fetch: returns the page of an order.
    """
    page = PageOrder(limit=MOST)
    while True:
        part = fetch(page)
        yield from part.data
        if not part.has_more:
            return
        page = PageOrder(limit=MOST, after=part.last_id)


def order_of(members: object, kind: type[T]) -> T:
    """Return an order from what was sent.

    Raises:
        CallerError: a member that is unknown, missing or of another type; `param` names it.
    """
    try:
        return msgspec.convert(members, kind)
    except msgspec.ValidationError as fault:
        text, _, path = str(fault).partition(" - at `$")
        names = path.strip("`.") if path else text.rpartition("`")[0].rpartition("`")[2]
        said = f"{names}: {text}." if path else f"{text}."
        raise CallerError(said, param=names or None) from fault


def _said(record: msgspec.Struct) -> dict[str, object]:
    """Return what the audit may repeat of a record: all of it, since no record holds a secret."""
    members = msgspec.structs.asdict(record).items()
    return {name: value for name, value in members if value and not isinstance(value, bytes)}
