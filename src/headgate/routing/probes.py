"""The gateway's own probes of targets: how often, of which, for how much. Pure."""

from __future__ import annotations

import msgspec

from headgate.money.amounts import parse_cap

_LEAST_S, _MOST_S = 10.0, 86_400.0
_MOST_TARGETS = 100


class ProbeTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Small calls that the gateway makes itself, so that it knows how a target does while nobody asks it."""

    every_s: float = 0.0  # how often each target is asked, in seconds, at least 10; 0: never
    targets: tuple[str, ...] = ()  # models as callers name them, or `provider/model`: each target of theirs
    budget: str = "0.10/day"  # most that they cost together; they rest when it is used up

    def wrong(self) -> str:
        """Return what is wrong with the settings, or an empty text."""
        if self.every_s and not _LEAST_S <= self.every_s <= _MOST_S:
            return f"every_s must be 0 (never), or {_LEAST_S:g} to {_MOST_S:g} seconds"
        if self.every_s and not 0 < len(self.targets) <= _MOST_TARGETS:
            return f'targets must name 1 to {_MOST_TARGETS} models, such as "openai/gpt-4o-mini"'
        try:
            parse_cap(self.budget)
        except ValueError as fault:
            return f"budget: {fault}"
        return ""
