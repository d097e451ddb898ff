"""Jobs at their providers: order one, ask for one, fetch one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.errors import NotFound, OrderUnclear, UpstreamInterrupted
from headgate.transport.elsewhere import at_origin, place_of
from headgate.transport.faults import Redirected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.ports import Exchange, Head, Request, Transport
    from headgate.providers.videos import VideoState, VideoWire
    from headgate.values import Target
    from headgate.wire.videos import VideoJob, VideoOrder

_MAX_ANSWER = 1024 * 1024
_HOPS = 3


class Works:
    """Who makes videos.

    Args:
        wires: by the kind of host.
        transport: to providers.
        simulator: in this process.
        downloads: to providers, for bodies of any length.
    """

    __slots__ = ("_downloads", "_simulator", "_transport", "_wires")

    def __init__(
        self,
        wires: Mapping[str, VideoWire],
        transport: Transport,
        simulator: Transport,
        downloads: Transport,
    ) -> None:
        self._wires = wires
        self._transport = transport
        self._simulator = simulator
        self._downloads = downloads

    async def order(self, order: VideoOrder, target: Target, request_id: str) -> VideoState:
        """Order a video.

        Raises:
            CallerError: nobody makes such a one.
            UpstreamError: the provider does not take the order.
        """
        return await self._told(target, self._wire(target).create(order, target, request_id))

    async def ask(self, job: VideoJob, target: Target) -> VideoState:
        """Ask how far a job is. Raises `UpstreamError`."""
        return await self._told(target, self._wire(target).ask(job, target))

    async def fetch(self, job: VideoJob, target: Target) -> tuple[Exchange, Head]:
        """Begin to fetch a video; the caller reads it, and releases the exchange.

        Raises:
            UpstreamError: the provider does not give it.
        """
        wire = self._wire(target)
        origin, request = wire.content(job, target)
        for _ in range(_HOPS):
            try:
                return await self._begin(wire, at_origin(target, origin) if origin else target, request)
            except Redirected as elsewhere:
                origin, request = _followed(elsewhere, request)
        raise UpstreamInterrupted("The provider redirects the download without end.")

    async def _begin(self, wire: VideoWire, target: Target, request: Request) -> tuple[Exchange, Head]:
        transport = self._simulator if target.simulated else self._downloads
        exchange = await transport.acquire(target)
        try:
            exchange.send(request)
            head = await exchange.head()
            body = b"" if head.status == 200 else await _whole(exchange)
        except BaseException:
            exchange.release()
            raise
        if head.status != 200:
            exchange.release()
            raise wire.error(head, body)
        return exchange, head

    def _wire(self, target: Target) -> VideoWire:
        wire = self._wires.get(target.host.videos or target.host.kind)
        mute = target.simulated and "videos" not in target.model.operations
        if wire is None or mute:
            raise NotFound("This model does not support videos.", param="model")
        return wire

    async def _told(self, target: Target, request: Request) -> VideoState:
        wire = self._wire(target)
        exchange = await (self._simulator if target.simulated else self._transport).acquire(target)
        try:
            exchange.send(request)
            head = await exchange.head()
            body = await _whole(exchange)
        except UpstreamInterrupted as error:
            if error.not_processed:
                raise
            raise OrderUnclear(error.message).at(error.place) from error
        finally:
            exchange.release()
        if head.status >= 300:
            raise wire.error(head, body)
        return wire.state(body)


def _followed(elsewhere: Redirected, asked: Request) -> tuple[str, Request]:
    """Return where a redirect leads: to https alone, without what we say to the provider itself."""
    origin, path = place_of(elsewhere.location)
    return origin, msgspec.structs.replace(asked, path=path, headers=())


async def _whole(exchange: Exchange) -> bytes:
    body = b""
    while len(body) < _MAX_ANSWER and (data := await exchange.read()):
        body += data
    return body
