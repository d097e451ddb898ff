"""What `headgate doctor` says of providers whose answers of batches lie at other hosts: at which they do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from headgate.cli.accountcheck import ask_all
from headgate.cli.redischeck import Seen
from headgate.errors import GatewayError, UpstreamDenied, UpstreamInterrupted
from headgate.providers.registry import BATCHES
from headgate.settings.upstreams import STORED
from headgate.transport.elsewhere import answers_at, host_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.batch.uplink import Uplink
    from headgate.cli.bucketcheck import Looked
    from headgate.config import Config
    from headgate.values import Host, Target

_NOT_YET: Final = "Until it answers no batch goes there."
_NAME: Final = "Add each that you know to be the provider's to its batch_hosts."
_NONE: Final = "what is no https address"


def look(config: Config) -> list[Looked]:
    """Ask each such provider that runs batches where the answers of those of the past lie."""
    return ask_all(config, [host for host in config.hosts if _asked(config, host)], _one)


def _asked(config: Config, host: Host) -> bool:
    wire = BATCHES.get(host.batches or host.kind)
    if wire is None or not wire.apart or host.handover.account:  # those are asked for their account
        return False
    if host.keyless or host.api_key.startswith(STORED):
        return False
    targets = (target for route in config.routes.values() for target in route.targets)
    own = (target.batch or host.batch for target in targets if target.provider == host.name)
    return host.batch != "own" or any(batch != "own" for batch in own)


async def _one(uplink: Uplink, target: Target) -> Seen:
    began, hosts = time.monotonic(), ", ".join(target.host.batch_hosts) or "no other host"
    try:
        named, others = _hosts(target, await uplink.standing(target))
    except UpstreamDenied as error:
        return Seen("fault", f"its batch API: {error.message}", "Mend the credential of the provider.", {})
    except GatewayError as error:
        return Seen("warning", f"its batch API: {error.message}", _NOT_YET, {})
    measured = {"ask": round((time.monotonic() - began) * 1000, 3)}
    if others:
        says = f"answers lie at {', '.join(others)}, which batch_hosts ({hosts}) does not name"
        return Seen("fault", says, _NAME, measured)
    if named:
        return Seen("ok", f"answers lie at {', '.join(named)}, which batch_hosts names", "", measured)
    return Seen("ok", f"answers may lie at {hosts}", "", measured)


def _hosts(target: Target, urls: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the hosts at which answers lie: those that are asked, and the others."""
    named, others = dict[str, None](), dict[str, None]()
    for url in urls:
        try:
            answers_at(url, target)
        except UpstreamInterrupted:
            others[host_of(url) or _NONE] = None
        else:
            named[host_of(url)] = None
    return list(named), list(others)
