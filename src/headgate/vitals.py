"""How providers do: what each worker has seen of them, and what that adds up to. Pure.

A *place* is a target asked with one of the provider's keys. Of each place a worker knows what went wrong
and how its breaker stands (`Sign`), of each target how many calls it served (`Traffic`). Uptime is what was
served of what was served or failed: neither what a caller got wrong nor a provider's rate limit (429) counts.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import msgspec

from headgate.values import WallMicros

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

DAYS: Final = 90  # for which uptime is kept
RECENT_S: Final = 300  # over which rates and times are given
OTHER: Final = "other"  # models that this gateway does not list by itself, in public
# Kinds of errors that speak against a target, the worst first, and the others.
FAULTS: Final = ("region", "denied", "interrupted", "timeout", "failed", "overloaded")
HARMLESS: Final = ("limited", "refused", "wrong_shape")
State: TypeAlias = Literal["well", "impaired", "busy", "probing", "out", "panic"]
_WORST: Final[tuple[State, ...]] = ("panic", "out", "probing", "busy", "impaired", "well")
_UNWELL: Final = frozenset({"panic", "out", "probing"})
_IMPAIRED_PERCENT: Final = 10  # of the recent attempts failed,
_IMPAIRED_LEAST: Final = 3  # and at least so many
_US: Final = 1_000_000
_DAY_S: Final = 86_400

# What each kind of error means, and what whoever runs the gateway can do.
ADVICE: Final[Mapping[str, str]] = {
    "region": "It does not serve the country or region that this gateway asks from: give the provider a "
    "`proxy`, or the model a target at another provider.",
    "denied": "It refuses this gateway's credential, or its account there has no credit: check the key and "
    "the balance with the provider.",
    "interrupted": "Connections to it fail or break off: `headgate doctor` measures the way to it.",
    "timeout": "It does not answer in time: `headgate doctor` measures the way to it.",
    "failed": "It answers with server errors of its own: its status page may say more.",
    "overloaded": "It says that it is overloaded: give the model a second target to fall back to.",
    "limited": "It limits this gateway's rate: ask it for a higher limit, or add a key or a target.",
}


class Sign(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one worker knows of a place."""

    provider: str
    model: str  # as the provider calls it
    key: str = ""  # which of the provider's keys; empty: its only one
    state: State = "well"
    until: WallMicros = 0  # when it is asked again; 0: it is
    times: int = 0  # how often in a row it was taken out
    served: int = 0  # where a provider has several keys; else `Traffic` says it
    retries: int = 0  # attempts at it after the first one of a call
    errors: dict[str, int] = {}  # attempts that failed, by kind
    last: str = ""  # the kind of the last error
    last_at: WallMicros = 0
    recent_served: int = 0  # where a provider has several keys
    recent_failed: int = 0
    first_byte_us: int = 0  # of all that were served with this key, together
    recent_first_byte_us: int = 0


class Traffic(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one worker has seen of a target: since it began, and lately."""

    provider: str
    model: str
    served: int = 0
    left: int = 0  # by callers who hung up
    recent_served: int = 0
    recent_failed: int = 0
    first_byte_us: int = 0  # of all that were served lately, together
    duration_us: int = 0


class Probing(msgspec.Struct, frozen=True, array_like=True):
    """How the gateway's own probes go."""

    every_s: float
    budget: str  # such as `0.10/day`
    made: int = 0
    served: int = 0
    paused: str = ""  # why none is made now


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """What one worker knows of all."""

    signs: tuple[Sign, ...] = ()
    traffic: tuple[Traffic, ...] = ()
    hosts: tuple[str, ...] = ()  # the providers that are configured
    simulated: bool = False
    probing: Probing | None = None


class DayRow(NamedTuple):
    """What became of a target's attempts on one day."""

    day: int  # since 1970, UTC
    provider: str
    model: str
    probe: bool  # by the gateway's own probes
    served: int
    failed: int


class Day(msgspec.Struct, frozen=True):
    """A day of a target or a provider."""

    date: str  # 2026-11-26, UTC
    served: int = 0  # calls
    failed: int = 0
    probes_served: int = 0
    probes_failed: int = 0


class KeyReport(msgspec.Struct, frozen=True):
    """One of a provider's keys at a target, by its number."""

    key: str
    state: State
    until: int  # Unix seconds; 0: it is asked
    attempts: int
    served: int
    retries: int
    errors: dict[str, int]
    failure_rate: float | None  # of the recent attempts; None: there were none
    first_byte_ms: int | None  # the recent mean


class TargetReport(msgspec.Struct, frozen=True):
    """A provider's model."""

    model: str
    state: State
    until: int  # Unix seconds; 0: it is asked
    workers_out: int  # whose breaker has taken it out
    times_out: int  # in a row
    attempts: int
    served: int
    retries: int
    errors: dict[str, int]  # attempts that failed, by kind
    last_error: str
    last_error_at: int  # Unix seconds; 0: there was none
    recent_attempts: int
    failure_rate: float | None  # of the recent ones; None: there were none
    first_byte_ms: int | None  # the recent mean
    duration_ms: int | None
    uptime: float | None  # of all days kept; None: nothing was asked
    days: tuple[Day, ...]  # on which something was asked, the oldest first
    keys: tuple[KeyReport, ...]  # where the provider has several


class ProviderReport(msgspec.Struct, frozen=True):
    """A provider."""

    provider: str
    state: State
    says: str  # what is wrong and what to do; empty: nothing
    kind: str  # of error that this is about
    uptime: float | None
    days: tuple[Day, ...]
    targets: tuple[TargetReport, ...]


class ProbesReport(msgspec.Struct, frozen=True):
    """The gateway's own probes."""

    every_s: float
    budget: str
    made: int
    served: int
    paused: str


class Report(msgspec.Struct, frozen=True):
    """What people see."""

    object: str
    at: int  # Unix seconds: when this was so
    serving: bool  # a server runs
    workers: int
    state: State
    simulated: bool  # the simulator answers, in play money
    recent_s: int
    days_kept: int
    providers: tuple[ProviderReport, ...]
    probes: ProbesReport | None


class Scene(NamedTuple):
    """What a report is made of."""

    seen: Sequence[Seen]  # by each worker
    days: Sequence[DayRow]
    at: WallMicros
    serving: bool = True
    lists: Callable[[str, str], bool] | None = None  # whether a target may be named; None: each may


def report(scene: Scene) -> Report:
    """Return what all workers have seen, added up."""
    seen, lists = scene.seen, scene.lists
    hosts = dict.fromkeys(host for each in seen for host in each.hosts)

    def name(provider: str, model: str) -> str:
        return model if lists is None or lists(provider, model) else OTHER

    signs: dict[tuple[str, str], list[Sign]] = {}
    traffic: dict[tuple[str, str], list[Traffic]] = {}
    days: dict[tuple[str, str], list[DayRow]] = {}
    for sign in (sign for each in seen for sign in each.signs):
        signs.setdefault((sign.provider, name(sign.provider, sign.model)), []).append(sign)
    for flow in (flow for each in seen for flow in each.traffic):
        traffic.setdefault((flow.provider, name(flow.provider, flow.model)), []).append(flow)
    for row in (row for row in scene.days if row.provider in hosts or not hosts):
        days.setdefault((row.provider, name(row.provider, row.model)), []).append(row)
    targets: dict[str, list[TargetReport]] = {host: [] for host in hosts}
    for place in sorted({*signs, *traffic, *days}):
        found = _target(place[1], signs.get(place, []), traffic.get(place, []), days.get(place, []))
        targets.setdefault(place[0], []).append(found)
    providers = tuple(_provider(host, tuple(rows)) for host, rows in targets.items())
    asked = [each for each in providers if each.targets]
    return Report(
        object="status",
        at=scene.at // _US,
        serving=scene.serving,
        workers=len(seen),
        state=_together([each.state for each in asked]),
        simulated=any(each.simulated for each in seen),
        recent_s=RECENT_S,
        days_kept=DAYS,
        providers=providers,
        probes=_probes([each.probing for each in seen if each.probing is not None], public=lists is not None),
    )


def _target(model: str, signs: list[Sign], traffic: list[Traffic], days: list[DayRow]) -> TargetReport:
    keys: dict[str, list[Sign]] = {}
    for sign in signs:
        keys.setdefault(sign.key, []).append(sign)
    states = [_worst(sign.state for sign in group) for group in keys.values()]
    errors = _errors(signs)
    served = sum(flow.served for flow in traffic)
    recent_served = sum(flow.recent_served for flow in traffic)
    recent_failed = sum(flow.recent_failed for flow in traffic)
    recent = recent_served + recent_failed
    state = _together(states) if len(states) > 1 else _worst(states)
    if state == "well" and _often(recent_failed, recent):
        state = "impaired"
    last = max(signs, key=lambda sign: sign.last_at, default=Sign("", model))
    shown = _days(days)
    return TargetReport(
        model=model,
        state=state,
        until=_until(signs) if state in _UNWELL or state == "busy" else 0,
        workers_out=sum(sign.state in _UNWELL for sign in signs),
        times_out=max((sign.times for sign in signs), default=0),
        attempts=served + sum(flow.left for flow in traffic) + sum(errors.values()),
        served=served,
        retries=sum(sign.retries for sign in signs),
        errors=errors,
        last_error=last.last,
        last_error_at=last.last_at // _US,
        recent_attempts=recent,
        failure_rate=_rate(recent_failed, recent_served),
        first_byte_ms=_mean_ms(sum(flow.first_byte_us for flow in traffic), recent_served),
        duration_ms=_mean_ms(sum(flow.duration_us for flow in traffic), recent_served),
        uptime=uptime(shown),
        days=shown,
        keys=tuple(_key(key, group) for key, group in sorted(keys.items()) if key),
    )


def _key(key: str, signs: list[Sign]) -> KeyReport:
    errors, served = _errors(signs), sum(sign.served for sign in signs)
    recent = sum(sign.recent_served for sign in signs)
    return KeyReport(
        key=key,
        state=_worst(sign.state for sign in signs),
        until=_until(signs),
        attempts=served + sum(errors.values()),
        served=served,
        retries=sum(sign.retries for sign in signs),
        errors=errors,
        failure_rate=_rate(sum(s.recent_failed for s in signs), recent),
        first_byte_ms=_mean_ms(sum(s.recent_first_byte_us for s in signs), recent),
    )


def _provider(name: str, targets: tuple[TargetReport, ...]) -> ProviderReport:
    state = _together([target.state for target in targets])
    kind = ""
    if state != "well":
        unwell = [target for target in targets if target.state != "well"]
        kind = max(unwell, key=lambda target: target.last_error_at).last_error
    days: dict[str, Day] = {}
    for day in (day for target in targets for day in target.days):
        days[day.date] = _added(days.get(day.date), day)
    shown = tuple(days[date] for date in sorted(days))
    return ProviderReport(
        provider=name,
        state=state,
        says=ADVICE.get(kind, ""),
        kind=kind,
        uptime=uptime(shown),
        days=shown,
        targets=targets,
    )


def _probes(found: Sequence[Probing], *, public: bool) -> ProbesReport | None:
    """Return what the worker that probes says of it; the budget is nobody else's business."""
    if not found:
        return None
    one = found[0]
    return ProbesReport(one.every_s, "" if public else one.budget, one.made, one.served, one.paused)


def uptime(days: Iterable[Day]) -> float | None:
    """Return the share of attempts that were served, traffic and probes together."""
    served = failed = 0
    for day in days:
        served += day.served + day.probes_served
        failed += day.failed + day.probes_failed
    return round(served / (served + failed), 6) if served + failed else None


def percent(share: float | None) -> str:
    """Return a share in per cent, never rounded to all or nothing of it; empty where there is none."""
    if share is None:
        return ""
    return f"{share:.0%}" if share in {0.0, 1.0} else f"{min(max(share * 100, 0.01), 99.99):.2f}%"


def _days(rows: list[DayRow]) -> tuple[Day, ...]:
    found: dict[str, Day] = {}
    for row in rows:
        date = datetime.fromtimestamp(row.day * _DAY_S, UTC).strftime("%Y-%m-%d")
        fresh = Day(date, 0, 0, row.served, row.failed) if row.probe else Day(date, row.served, row.failed)
        found[date] = _added(found.get(date), fresh)
    return tuple(found[date] for date in sorted(found))


def _added(one: Day | None, other: Day) -> Day:
    if one is None:
        return other
    return Day(
        one.date,
        one.served + other.served,
        one.failed + other.failed,
        one.probes_served + other.probes_served,
        one.probes_failed + other.probes_failed,
    )


def _errors(signs: Iterable[Sign]) -> dict[str, int]:
    counts = Counter[str]()
    for sign in signs:
        counts.update(sign.errors)
    return {kind: counts[kind] for kind in (*FAULTS, *HARMLESS) if counts[kind]}


def _until(signs: Iterable[Sign]) -> int:
    return max((sign.until for sign in signs), default=0) // _US


def _rate(failed: int, served: int) -> float | None:
    return round(failed / (failed + served), 4) if failed + served else None


def _mean_ms(total_us: int, count: int) -> int | None:
    return round(total_us / count / 1000) if count else None


def _often(failed: int, attempts: int) -> bool:
    return failed >= _IMPAIRED_LEAST and failed * 100 >= attempts * _IMPAIRED_PERCENT


def _worst(states: Iterable[State]) -> State:
    return min(states, key=_WORST.index, default="well")


def _together(states: Sequence[State]) -> State:
    """Return how something stands as a whole whose parts stand so: out where all are, else impaired."""
    if not states or all(state == "well" for state in states):
        return "well"
    if all(state in _UNWELL for state in states):
        return _worst(states)
    return "impaired"
