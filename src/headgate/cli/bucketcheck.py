"""What `headgate doctor` says of the buckets through which batches go: whether they can be listed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.batch.depot import Depot
from headgate.cli import compose
from headgate.cli.redischeck import Seen
from headgate.errors import GatewayError, UpstreamDenied
from headgate.process.accesskeys import AccessKeyKeeper
from headgate.process.outward import outbound
from headgate.process.tokens import TokenKeeper
from headgate.providers.registry import BATCHES
from headgate.transport.http import HttpTransport
from headgate.values import Deadlines, Model, Target

if TYPE_CHECKING:
    from headgate.config import Config
    from headgate.values import Host

_PATIENCE_S: Final = 10.0  # for a credential
DEADLINES: Final = Deadlines(connect_s=5.0, first_byte_s=10.0, between_frames_s=10.0, total_s=20.0)
_ALLOW: Final = (
    "Allow its credential what docs/batches.md names there, and see that name and region are right."
)


class Looked(NamedTuple):
    """One bucket."""

    provider: str
    seen: Seen


def look(config: Config) -> list[Looked]:
    """Ask for what lies in each bucket; changes nothing."""
    hosts = [host for host in config.hosts if host.bucket is not None]
    return asyncio.run(_all(config, hosts)) if hosts else []


async def _all(config: Config, hosts: list[Host]) -> list[Looked]:
    transport = HttpTransport(compose.CLOCK, outbound(config))
    try:
        seen = await asyncio.gather(*(_one(transport, host) for host in hosts))
    finally:
        await transport.close()
    return [Looked(host.name, each) for host, each in zip(hosts, seen, strict=True)]


async def _one(transport: HttpTransport, host: Host) -> Seen:
    objects, bucket = BATCHES[host.batches or host.kind].objects, host.bucket
    assert objects is not None
    assert bucket is not None
    place = bucket.url(bucket.prefix)
    target = Target(host=host, model=Model(name=""), prices=None, deadlines=DEADLINES)
    if trouble := await _trouble(transport, host):
        return Seen("fault", f"{place}: {trouble}", "Mend the credential of the provider.", {})
    began = time.monotonic()
    try:
        count = await Depot(transport).count(objects, target)
    except UpstreamDenied as error:
        return Seen("fault", f"{place}: {error.message}", _ALLOW, {})
    except GatewayError as error:
        return Seen("warning", f"{place}: {error.message}", "Until it answers no batch goes there.", {})
    took_ms = (time.monotonic() - began) * 1000
    says = f"{place} can be listed, {took_ms:,.0f} ms; of batches {count} objects lie there"
    return Seen("ok", says, "", {"ask": round(took_ms, 3)})


async def _trouble(transport: HttpTransport, host: Host) -> str:
    """Fetch a host's token or keys, where these are fetched; return why there are none, if so."""
    troubles: list[str] = []
    keeper: TokenKeeper | AccessKeyKeeper
    if host.tokens is not None:
        keeper = TokenKeeper(host, transport, compose.CLOCK, troubles.append)
    elif host.signing is not None and not host.signing.given:
        keeper = AccessKeyKeeper(host, troubles.append)
    else:
        return ""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await keeper.once()
    except TimeoutError:
        return f"its credential could not be had within {_PATIENCE_S:g} s"
    return troubles[-1] if troubles else ""
