"""Which targets a call is for, and which of them is asked first, where the settings say more than weights.

The parts are in `routing/`, each pure; here is what they ask of a call, and of how attempts end.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.admission.bounds import TEXTLESS, output_limit, rough_input, units_bound
from headgate.errors import Outrun, UpstreamError, UpstreamRefused
from headgate.money.cost import cost
from headgate.routing.cheapest import cheapest_first
from headgate.routing.conditions import Described, fitting, unfit
from headgate.routing.demands import lacking, meeting
from headgate.routing.latency import Latencies
from headgate.values import Book, Usage
from headgate.wire.messages import kinds_of_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.attempts import Attempt
    from headgate.ports import Clock, Sink
    from headgate.routing.routes import Routes
    from headgate.routing.trials import Trials
    from headgate.settle import Tab
    from headgate.values import Call, Demand, Holding, Target

USUAL_OUTPUT: Final = 500  # tokens of an answer
_NOTHING: Final = (b"null", b"[]")
_SPOKEN: Final = ("transcriptions", "translations")
_PARTS: Final[dict[str, Holding]] = {"image_url": "images", "input_audio": "audio", "file": "files"}
_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode


class Steering:
    """Choose targets. One per process.

    Args:
        clock: monotonic time.
        draw: returns chance from [0, 1).
        trials: the canaries here.
    """

    __slots__ = ("_clock", "_draw", "latencies", "trials")

    def __init__(self, clock: Clock, draw: Callable[[], float], trials: Trials) -> None:
        self.latencies = Latencies()
        self.trials = trials
        self._clock = clock
        self._draw = draw

    def choose(self, call: Call, targets: tuple[Target, ...], routes: Routes) -> tuple[Target, ...]:
        """Return the targets that a call may take, in the order in which they are asked.

        Raises:
            NoTarget: there is none.
        """
        demands = _demands(call, routes)
        canaries: tuple[Target, ...] = ()
        if targets[-1].canary:
            targets, canaries = apart(targets)
        if demands:
            targets = meeting(targets, demands, call.model)
        if any(target.whens for target in (*targets, *canaries)):
            asked = described(call)
            targets = fitting(targets, asked)
            canaries = tuple(target for target in canaries if not unfit(target, asked))
        if len(targets) > 1 and any(target.choice for target in targets):
            targets = by_group(targets, partial(self._chosen_first, call))
        if targets[0].trial:
            canaries = tuple(target for target in canaries if not lacking(target, demands))
            return self._sided(call, targets, canaries)
        return targets

    def shadow(self, call: Call, routes: Routes) -> Target | None:
        """Return the target that gets a copy of an answered call, where that is drawn and may have it."""
        (settings, _), caller = routes.extras_of(call.model), call.principal
        assert caller is not None
        if settings is None or caller.book is Book.SIM or self._draw() * 100 >= settings.share_percent:
            return None
        target = routes.shadow_target(call.model, self._clock.wall(), call.tier)
        if lacking(target, _demands(call, routes)) or (target.whens and unfit(target, described(call))):
            return None
        return target

    def _sided(
        self, call: Call, targets: tuple[Target, ...], canaries: tuple[Target, ...]
    ) -> tuple[Target, ...]:
        """Return the targets of the side of a canary on which a call is."""
        trial = targets[0].trial
        takes = self.trials.takes(trial, _identity(call, self.trials.sticky_by(trial))) if canaries else None
        if takes:
            return (*canaries, *targets)
        if takes is None:  # what the canary could not have had is not compared with it
            return tuple(msgspec.structs.replace(target, trial="") for target in targets)
        return targets

    def _chosen_first(self, call: Call, group: tuple[Target, ...]) -> tuple[Target, ...]:
        if group[0].choice == "least_latency":
            return self.latencies.fastest_first(group, self._clock.monotonic(), stream=call.stream)
        costs = [
            None if target.costs is None else cost(_expected(call, target), target.costs) for target in group
        ]
        return cheapest_first(group, costs, self._draw())

    def watching(self, attempt: Attempt, targets: tuple[Target, ...]) -> Attempt:
        """Return an attempt on one of a call's targets that takes in how it ended."""
        return partial(self._watched, attempt, targets[0])

    async def _watched(
        self, attempt: Attempt, meant: Target, call: Call, sink: Sink, tab: Tab, target: Target
    ) -> None:
        # Of the two sides of a canary first attempts are compared, where they are made as they were meant.
        compared = bool(target.trial) and not tab.attempts and target.canary is meant.canary
        try:
            await attempt(call, sink, tab, target)
        except UpstreamError as error:
            if compared and not error.not_processed:
                refused = isinstance(error, UpstreamRefused)
                caller = _identity(call, self.trials.sticky_by(target.trial)) if refused else ""
                self.trials.tried(target.trial, canary=target.canary, failed=True, refused=caller)
            raise
        except Outrun:  # it took at least so long
            if target.choice == "least_latency" and call.stream:
                self.latencies.took(target, tab.open_ns, self._clock.monotonic(), stream=True)
            raise
        pace_ns = tab.pace_ns
        if not pace_ns:
            return
        if target.choice == "least_latency":
            self.latencies.took(target, pace_ns, self._clock.monotonic(), stream=call.stream)
        if compared:
            self.trials.tried(target.trial, canary=target.canary, failed=False)
            self.trials.took(target.trial, pace_ns, canary=target.canary, stream=call.stream)


def _demands(call: Call, routes: Routes) -> tuple[Demand, ...]:
    """Return all that is demanded of a call's targets."""
    principal = call.principal
    assert principal is not None
    demands = routes.demanded(principal)
    return demands if call.demand is None else (*demands, call.demand)


def apart(targets: tuple[Target, ...]) -> tuple[tuple[Target, ...], tuple[Target, ...]]:
    """Return the targets of the main side, and those of the canary, which stand last."""
    main = tuple(target for target in targets if not target.canary)
    return main, targets[len(main) :]


def _identity(call: Call, sticky_by: str) -> str:
    """Return who a caller is for a canary; where that is not given, its key."""
    kind, _, name = sticky_by.partition(".")
    found = ""
    if kind == "metadata":
        found = _metadata(call).get(name, "")
    elif kind == "user":
        raw = (bytes(call.members.get(member, b'""')) for member in ("user", "safety_identifier"))
        found = next(
            (text for each in raw if isinstance(text := msgspec.json.decode(each), str) and text), ""
        )
    principal = call.principal
    assert principal is not None
    return f"{kind}:{found}" if found else f"key:{principal.key}"


def by_group(
    targets: tuple[Target, ...], chosen_first: Callable[[tuple[Target, ...]], tuple[Target, ...]]
) -> tuple[Target, ...]:
    """Return targets with each group in the order of its choice; groups keep theirs."""
    found: list[Target] = []
    for _, members in groupby(targets, attrgetter("group")):
        group = tuple(members)
        found += chosen_first(group) if group[0].choice else group
    return tuple(found)


def _expected(call: Call, target: Target) -> Usage:
    """Return what a call probably uses: our estimate of its input, and what it allows of the usual output."""
    made = 0 if call.operation in TEXTLESS else min(output_limit(call, target), USUAL_OUTPUT) * call.n
    return Usage(rough_input(call), made, more=units_bound(call, target))


def described(call: Call) -> Described:
    """Return what conditions ask of a call."""
    principal = call.principal
    assert principal is not None
    return Described(
        call.model,
        principal.name,
        principal.project_id,
        principal.tier,
        _metadata(call),
        rough_input(call),
        frozenset(_holdings(call)),
        call.stream,
    )


def _metadata(call: Call) -> dict[str, str]:
    raw = bytes(call.members.get("metadata", b"null"))
    return _decode_metadata(raw) if raw != b"null" else {}


def _holdings(call: Call) -> Iterator[Holding]:
    members = call.members
    if call.files is not None:
        yield "audio" if call.operation in _SPOKEN else "images"
    if call.media is not None and "messages" in members:
        kinds = kinds_of_parts(bytes(members["messages"]))
        yield from (holding for kind, holding in _PARTS.items() if kind in kinds)
    if any(bytes(members.get(name, b"[]")) not in _NOTHING for name in ("tools", "functions")):
        yield "tools"
    if call.shape is not None:
        yield "schema"
