"""Which calls a target is for: the `when` of the settings. Pure; nothing of a caller's text is evaluated."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from headgate.errors import NoTarget

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headgate.values import Holding, Target, When


class Described(NamedTuple):
    """What is asked of a call to find its targets."""

    model: str
    key: str = ""  # its name
    project: str = ""  # its public id
    tier: str = ""  # of the account
    metadata: Mapping[str, str] = {}
    input_tokens: int = 0  # estimated
    holds: frozenset[Holding] = frozenset()
    stream: bool = False

    @property
    def words(self) -> str:
        """Say what a call is like, without the values that its caller chose."""
        parts = [f"about {self.input_tokens:,} input tokens"]
        parts += sorted(self.holds) or ["text alone"]
        parts.append("streamed" if self.stream else "not streamed")
        parts += [f"key `{self.key}`"] if self.key else []
        parts += [f"tier `{self.tier}`"] if self.tier else []
        parts += [f"metadata {', '.join(f'`{name}`' for name in self.metadata)}"] if self.metadata else []
        return ", ".join(parts)


def unfit(target: Target, call: Described) -> str:
    """Return why a target is not for a call, or an empty text."""
    for when in target.whens:
        if why := _whose(when, call) or _what(when, call):
            return why
    return ""


def fitting(targets: tuple[Target, ...], call: Described) -> tuple[Target, ...]:
    """Return the targets that a call is for, in their order.

    Raises:
        NoTarget: there is none.
    """
    found = tuple(target for target in targets if not (target.whens and unfit(target, call)))
    if not found:
        raise NoTarget(
            f"No target of the model `{call.model}` is for this call: {call.words}. Ask for another model "
            "or send another request; whoever runs the gateway sees the conditions with `headgate route`.",
            param="model",
        )
    return found


def _whose(when: When, call: Described) -> str:
    if when.keys and not _any(call.key, when.keys):
        return f"for keys {_listed(when.keys)}"
    if when.projects and call.project not in when.projects:
        return f"for projects {_listed(when.projects)}"
    if when.tiers and call.tier not in when.tiers:
        return f"for tiers {_listed(when.tiers)}"
    for name, pattern in when.metadata.items():
        if name not in call.metadata or not fnmatchcase(call.metadata[name], pattern):
            return f"for metadata {name} = {pattern}"
    return ""


def _what(when: When, call: Described) -> str:
    if call.input_tokens < when.min_input_tokens:
        return f"for inputs from {when.min_input_tokens:,} tokens"
    if when.max_input_tokens and call.input_tokens > when.max_input_tokens:
        return f"for inputs up to {when.max_input_tokens:,} tokens"
    if missing := [each for each in when.has if each not in call.holds]:
        return f"for calls with {_listed(missing)}"
    if here := [each for each in when.lacks if each in call.holds]:
        return f"for calls without {_listed(here)}"
    if when.stream is not None and when.stream is not call.stream:
        return "for streams" if when.stream else "for answers that are not streamed"
    return ""


def _any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
