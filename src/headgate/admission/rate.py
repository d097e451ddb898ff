"""Requests and tokens per minute and day, and calls at once: of keys, projects, accounts and models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, get_args

from headgate.admission.gates import Gate, Hall, PassGate
from headgate.admission.limits import LimitTable
from headgate.admission.meters import Count, Kind, TokenBucket
from headgate.admission.passes import Turnstiles

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.admission.gates import Ticket
    from headgate.admission.limits import Bound
    from headgate.admission.meters import Place
    from headgate.admission.sharing import Shares
    from headgate.values import MonotonicNs, Principal

_KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_MOST_GATES: Final = 20_000  # beyond these all are forgotten and resolved anew


class Reading(NamedTuple):
    """What a bucket lacked, for the next start."""

    name: str
    lacking: int  # millionths of a unit
    ago_ns: int = 0  # how long before now


class Rates:
    """Admit calls within limits. Refused calls count nothing.

    Args:
        table: the limits in force.
        count_failed: calls that fail at their provider count.
        shares: makes meters that are shared with other workers; None: there are none.
    """

    __slots__ = (
        "_buckets", "_by_model", "_counts", "_gates", "_restored", "_table", "_turnstiles", "hall", "shares",
    )  # fmt: skip

    def __init__(
        self, table: LimitTable | None = None, *, count_failed: bool = True, shares: Shares | None = None
    ) -> None:
        self.shares = shares
        self._table = table or LimitTable()
        self.hall = Hall(count_failed=count_failed)
        self._gates: dict[int, Gate] = {}  # by key, where the model makes no difference
        self._by_model: dict[tuple[int, str], Gate] = {}
        self._buckets: dict[str, TokenBucket] = {}  # one class for all: code that meets two is slower
        self._counts: dict[str, Count] = {}
        self._turnstiles = Turnstiles() if shares is None else shares.turnstiles
        self._restored: dict[str, tuple[int, MonotonicNs]] = {}  # of the last run, not asked for yet

    def replace(self, table: LimitTable) -> None:
        """Take over other limits; what is used stays used."""
        self._table = table
        self._forget()

    def gate(self, principal: Principal, model: str, now: MonotonicNs) -> Gate:
        """Return what a principal's calls for a model pass."""
        gate = self._gates.get(principal.key)
        if gate is not None and gate.principal is principal:
            return gate
        gate = self._by_model.get((principal.key, model))
        if gate is not None and gate.principal is principal:
            return gate
        if len(self._gates) + len(self._by_model) >= _MOST_GATES:
            self.prune(now)
        gate = self._resolve(principal, model, now)
        if self._table.by_model(principal):
            self._gates.pop(principal.key, None)
            self._by_model[principal.key, model] = gate
        else:
            self._gates[principal.key] = gate
        return gate

    def settle(self, ticket: Ticket, used: int, now: MonotonicNs, *, failed: bool = False) -> None:
        """End a call that used so many tokens; the second time does nothing."""
        ticket.gate.settle(ticket, used, now, failed=failed)

    def cancel(self, ticket: Ticket, now: MonotonicNs) -> None:
        """Undo an admission of a call that we then refused ourselves."""
        if ticket.open:
            self.settle(ticket, 0, now)
            ticket.gate.uncount(now)

    def lines(self, principal: Principal, model: str, now: MonotonicNs) -> bytes:
        """Return the `x-ratelimit-*` header lines of a principal's calls for a model."""
        return self.gate(principal, model, now).lines(now)

    # ── meters ───────────────────────────────────────────────────────────────────────────────────

    def _resolve(self, principal: Principal, model: str, now: MonotonicNs) -> Gate:
        bounds = self._table.bounds(principal, model)
        buckets = [
            self._bucket(bound.place, kind, limit, now)
            for bound in bounds
            for kind in _KINDS
            if (limit := getattr(bound.limits, kind))
        ]
        tokens = tuple(each for each in buckets if each.kind in {"tpm", "tpd"})
        requests = tuple(each for each in buckets if each.kind in {"rpm", "rpd"})
        counts = tuple(self._count(bound) for bound in bounds if bound.limits.concurrency)
        queue_ms = self._table.queue_ms(principal)
        if self._turnstiles is None:
            gate = Gate(principal, requests, tokens, counts, queue_ms)
        else:
            turnstile = self._turnstiles.of(principal.account)
            gate = PassGate(principal, requests, tokens, counts, queue_ms, turnstile)
        gate.hall = self.hall
        return gate

    def _bucket(self, place: Place, kind: Kind, limit: int, now: MonotonicNs) -> TokenBucket:
        name = place.named(kind)
        bucket = self._buckets.get(name)
        if bucket is None:
            if self.shares is None:
                bucket = TokenBucket(place, kind, limit, now)
            else:
                bucket = self.shares.bucket(place, kind, limit)
            self._buckets[name] = bucket
            lacking, at = self._restored.pop(name, (0, now))
            bucket.restore(lacking, now - at, now)
        else:
            bucket.change(limit, now)
        return bucket

    def _count(self, bound: Bound) -> Count:
        name = bound.place.named("concurrency")
        count = self._counts.get(name)
        if count is None:
            make = Count if self.shares is None else self.shares.count
            count = self._counts[name] = make(bound.place, bound.limits.concurrency)
        count.limit = bound.limits.concurrency
        return count

    def prune(self, now: MonotonicNs) -> None:
        """Forget every gate, and the meters that say nothing: of full buckets and no open calls."""
        self._forget()
        self._buckets = {name: each for name, each in self._buckets.items() if not each.idle(now)}
        self._counts = {name: each for name, each in self._counts.items() if not each.idle()}

    def _forget(self) -> None:
        if self._turnstiles is not None:
            self._turnstiles.close()
        self._gates.clear()
        self._by_model.clear()

    # ── across restarts ──────────────────────────────────────────────────────────────────────────

    def restore(self, readings: Iterable[Reading], now: MonotonicNs) -> None:
        """Begin with what the buckets of the last run lacked."""
        self._restored = {each.name: (each.lacking, now - max(each.ago_ns, 0)) for each in readings}

    def readings(self, now: MonotonicNs) -> list[Reading]:
        """Return what the buckets lack that have changed since this was last asked."""
        touched, self.hall.changed = self.hall.changed, []
        for gate in touched:
            gate.touched = False
            gate.close()
        buckets = {bucket for gate in touched for bucket in (*gate.requests, *gate.tokens)}
        return [Reading(bucket.place.named(bucket.kind), bucket.lacking(now)) for bucket in buckets]
