"""Other names of models: of the settings file, and of `--alias`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.settings.places import placed
from headgate.settings.upstreams import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


def given_aliases(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return the aliases of flags.

    Raises:
        ConfigError: one is not NAME=MODEL.
    """
    aliases = {}
    for pair in pairs:
        name, sign, target = pair.partition("=")
        if not (name and sign and target):
            raise ConfigError(f"--alias {pair!r} is not NAME=MODEL, e.g. gpt-3.5-turbo=deepseek-flash.")
        aliases[name] = target
    return aliases


@placed("aliases")
def resolved(aliases: Mapping[str, str]) -> dict[str, str]:
    """Return each alias with the model at the end of its chain.

    Raises:
        ConfigError: a chain has no end; says it from where it closes.
    """
    ends = {}
    for name in aliases:
        chain = [name]
        while (after := aliases.get(chain[-1])) is not None:
            if after in chain:
                circle = [*chain[chain.index(after) :], after]
                raise ConfigError(f"aliases go in a circle: {' = '.join(circle)}. One must name a model.")
            chain.append(after)
        ends[name] = chain[-1]
    return ends
