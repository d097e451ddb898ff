"""The edge of calls that the pipeline does not serve: what goes wrong becomes an answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate.errors import CallerGone, GatewayError, Internal

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from headgate.http.dataplane import Service
    from headgate.ports import Sink
    from headgate.values import Call


async def guarded(service: Service, call: Call, sink: Sink, run: Awaitable[None]) -> None:
    """Serve a call to its end; never raises but on cancellation."""
    try:
        await run
    except GatewayError as error:
        turn_away(service, call, error, sink)
    except CallerGone:
        pass  # nobody is left to read
    except asyncio.CancelledError:
        sink.abort()
        raise
    except Exception as fault:
        service.fault(call, fault)
        if sink.started:
            sink.abort()
        else:
            turn_away(service, call, Internal("The server had an error while processing your request."), sink)


def turn_away(service: Service, call: Call, error: GatewayError, sink: Sink) -> None:
    """Answer with an error, and count it."""
    service.refused(call.operation, error)
    service.pipeline.refuse(call, error, sink)
