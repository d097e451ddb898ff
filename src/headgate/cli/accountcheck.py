"""What `headgate doctor` says of the accounts in which batches are made: whether jobs there can be listed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.batch.uplink import Uplink
from headgate.cli import compose
from headgate.cli.bucketcheck import DEADLINES, Looked
from headgate.cli.redischeck import Seen
from headgate.errors import GatewayError, UpstreamDenied, UpstreamRefused
from headgate.process.outward import build_routes, outbound
from headgate.providers.registry import BATCHES
from headgate.transport.http import HttpTransport
from headgate.values import Book

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from headgate.config import Config
    from headgate.values import Host, Target

_MEND: Final = (
    "See that batch_account is the id of the account that the key is of, and that the key may make batches."
)


def look(config: Config) -> list[Looked]:
    """Ask for the jobs of each account; changes nothing."""
    return ask_all(config, [host for host in config.hosts if host.handover.account], _one)


def ask_all(
    config: Config, hosts: list[Host], one: Callable[[Uplink, Target], Coroutine[None, None, Seen]]
) -> list[Looked]:
    """Ask the batch API of each host, all at the same time; return what is seen, in their order."""
    if not hosts:
        return []
    try:
        routes = build_routes(config, "doctor")
    except GatewayError:  # told as the configuration's fault
        return []
    now = compose.CLOCK.wall()
    asked = (f"{host.name}/{host.example or 'model'}" for host in hosts)
    found = (routes.candidates(name, Book.REAL, now)[0] for name in asked)
    targets = [msgspec.structs.replace(target, deadlines=DEADLINES) for target in found]
    return asyncio.run(_all(config, targets, one))


async def _all(
    config: Config, targets: list[Target], one: Callable[[Uplink, Target], Coroutine[None, None, Seen]]
) -> list[Looked]:
    transport = HttpTransport(compose.CLOCK, outbound(config))
    try:
        seen = await asyncio.gather(*(one(Uplink(BATCHES, transport, ""), target) for target in targets))
    finally:
        await transport.close()
    return [Looked(target.host.name, each) for target, each in zip(targets, seen, strict=True)]


async def _one(uplink: Uplink, target: Target) -> Seen:
    place, began = f"account {target.host.handover.account}", time.monotonic()
    try:
        await uplink.standing(target)
    except (UpstreamDenied, UpstreamRefused) as error:
        return Seen("fault", f"{place}: {error.message}", _MEND, {})
    except GatewayError as error:
        return Seen("warning", f"{place}: {error.message}", "Until it answers no batch goes there.", {})
    took_ms = (time.monotonic() - began) * 1000
    return Seen("ok", f"jobs of {place} can be listed, {took_ms:,.0f} ms", "", {"ask": round(took_ms, 3)})
