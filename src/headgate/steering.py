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
from headgate.money.cost import cost
from headgate.routing.cheapest import cheapest_first
from headgate.routing.conditions import Described, fitting
from headgate.routing.demands import meeting
from headgate.routing.latency import Latencies
from headgate.values import Usage
from headgate.wire.messages import kinds_of_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.attempts import Attempt
    from headgate.ports import Clock, Sink
    from headgate.routing.routes import Routes
    from headgate.settle import Tab
    from headgate.values import Call, Holding, Target

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
    """

    __slots__ = ("_clock", "_draw", "latencies")

    def __init__(self, clock: Clock, draw: Callable[[], float]) -> None:
        self.latencies = Latencies()
        self._clock = clock
        self._draw = draw

    def choose(self, call: Call, targets: tuple[Target, ...], routes: Routes) -> tuple[Target, ...]:
        """Return the targets that a call may take, in the order in which they are asked.

        Raises:
            NoTarget: there is none.
        """
        principal = call.principal
        assert principal is not None
        demands = routes.demanded(principal)
        if call.demand is not None:
            demands += (call.demand,)
        if demands:
            targets = meeting(targets, demands, call.model)
        if any(target.whens for target in targets):
            targets = fitting(targets, described(call))
        if len(targets) > 1 and any(target.choice for target in targets):
            targets = by_group(targets, partial(self._chosen_first, call))
        return targets

    def _chosen_first(self, call: Call, group: tuple[Target, ...]) -> tuple[Target, ...]:
        if group[0].choice == "least_latency":
            return self.latencies.fastest_first(group, self._clock.monotonic(), stream=call.stream)
        costs = [
            None if target.costs is None else cost(_expected(call, target), target.costs) for target in group
        ]
        return cheapest_first(group, costs, self._draw())

    def watching(self, attempt: Attempt) -> Attempt:
        """Return an attempt that takes in how it ended."""
        return partial(self._watched, attempt)

    async def _watched(self, attempt: Attempt, call: Call, sink: Sink, tab: Tab, target: Target) -> None:
        await attempt(call, sink, tab, target)
        pace_ns = tab.pace_ns
        if target.choice == "least_latency" and pace_ns:
            self.latencies.took(target, pace_ns, self._clock.monotonic(), stream=call.stream)


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
