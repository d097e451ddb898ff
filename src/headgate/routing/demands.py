"""Where calls may be served, and under which policy for their data: what is demanded of targets. Pure."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.errors import CallerError, NoTarget
from headgate.values import Demand

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.values import Principal, Target

HEADER: Final = "x-headgate-demand"
_TAG = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}").fullmatch


class DemandSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the calls of some keys, projects or tiers demand of their targets. All that meet a call hold."""

    keys: tuple[str, ...] = ()  # names of keys, or patterns; without these and the next two: of all calls
    projects: tuple[str, ...] = ()  # ids: `proj_...`
    tiers: tuple[str, ...] = ()  # of the account
    regions: tuple[str, ...] = ()  # one of these; `eu` stands for every region that begins with `eu-`, too
    data: tuple[str, ...] = ()  # all of these

    def wrong(self) -> str:
        """Return what is wrong with it, or an empty text."""
        if not (self.regions or self.data):
            return "regions and data are both empty, so nothing is demanded"
        return wrong_tags((*self.regions, *self.data))

    @property
    def demand(self) -> Demand:
        """Return what is demanded."""
        return Demand(self.regions, self.data, "the gateway's settings")

    def meets(self, caller: Principal) -> bool:
        """Say whether the calls of a key are among those that demand this."""
        if self.keys and not any(fnmatchcase(caller.name, pattern) for pattern in self.keys):
            return False
        if self.projects and caller.project_id not in self.projects:
            return False
        return not self.tiers or caller.tier in self.tiers


def wrong_tags(tags: Iterable[str]) -> str:
    """Return what is wrong with names of regions and policies, or an empty text."""
    wrong = next((tag for tag in tags if _TAG(tag) is None), None)
    return "" if wrong is None else f"{wrong!r} is not written in small letters, digits, `_`, `-` and `.`"


def read_demand(header: str) -> Demand:
    """Return what a request demands: `region=eu, region=ch, data=no_training`.

    Raises:
        CallerError: it cannot be read.
    """
    found: dict[str, list[str]] = {"region": [], "data": []}
    for part in header.split(","):
        name, _, tag = part.strip().partition("=")
        wrong = f"{part.strip()[:100]!r} is none of region=NAME and data=NAME"
        if name in found and tag:
            wrong = wrong_tags((tag[:100],))
        if wrong:
            raise CallerError(
                f"Invalid '{HEADER}' header: {wrong}. It is a list such as region=eu, data=no_training.",
                code="invalid_value",
            )
        found[name].append(tag)
    return Demand(tuple(found["region"]), tuple(found["data"]), f"the header {HEADER}")


def lacking(target: Target, demands: Iterable[Demand]) -> str:
    """Return what of some demands a target does not have, in words; empty: nothing. The simulator has all."""
    if target.simulated:
        return ""
    for demand in demands:
        if demand.regions and not any(_within(target.region, region) for region in demand.regions):
            return f"not in region {' or '.join(demand.regions)}"
        if missing := [tag for tag in demand.data if tag not in target.data]:
            return f"without {' and '.join(missing)}"
    return ""


def meeting(targets: tuple[Target, ...], demands: tuple[Demand, ...], model: str) -> tuple[Target, ...]:
    """Return the targets that have all that is demanded, in their order.

    Raises:
        NoTarget: there is none.
    """
    found = tuple(target for target in targets if not lacking(target, demands))
    if not found:
        raise NoTarget(
            f"No target of the model `{model}` has what this call demands: "
            f"{'; '.join(map(_words, demands))}. Ask for another model, or demand less.",
            param="model",
            code="no_target_for_demand",
        )
    return found


def _within(region: str, wanted: str) -> bool:
    return region == wanted or region.startswith(f"{wanted}-")


def _words(demand: Demand) -> str:
    parts = [f"region {' or '.join(demand.regions)}"] if demand.regions else []
    parts += [f"data {' and '.join(demand.data)}"] if demand.data else []
    return f"{' with '.join(parts)} ({demand.by})"
