"""Lines of a batch on their way to a provider's batch API, when it does not want them all."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator

import pytest
from tests.transport.asking import http, target

from headgate.batch.uplink import Uplink
from headgate.errors import UpstreamError, UpstreamInterrupted, UpstreamRefused
from headgate.providers.batches import OpenAIBatches
from headgate.values import Book
from headgate.wire.batchjobs import BatchJob, Part, Passed

pytestmark = pytest.mark.anyio

JOB = BatchJob(
    id="batch_ours", call=bytes(16), account=1, project=1, key=1, member=0, book=Book.REAL,
    endpoint="/v1/embeddings", input_file="file-ours", created_at=1, expires_at=1,
    passed=Passed(provider="p", upstream="m", parts=(Part(until=9, lines=9),)),
)  # fmt: skip
REFUSAL = b'{"error": {"message": "Maximum size exceeded.", "code": "too_large"}}'
EARLY = b"HTTP/1.1 413 -\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


@contextlib.asynccontextmanager
async def impatient(answer: bytes | None) -> AsyncIterator[str]:
    """A provider that takes a little, and then answers, or hangs up."""

    told, gone = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        if answer is not None:
            writer.write(answer)
            await told.wait()
        writer.transport.abort()
        gone.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1_000)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        told.set()
        await gone.wait()
        server.close()


@pytest.mark.parametrize(
    ("answer", "error"), [(EARLY % (len(REFUSAL), REFUSAL), UpstreamRefused), (None, UpstreamInterrupted)]
)
async def test_what_stops_lines_on_their_way_is_told_as_what_it_is(
    answer: bytes | None, error: type[UpstreamError]
) -> None:
    async with impatient(answer) as base, http() as transport:
        to = target(base)
        uplink = Uplink({to.host.kind: OpenAIBatches()}, transport, tempfile.gettempdir())
        with tempfile.TemporaryFile() as spool:
            spool.write(bytes(20_000_000))
            spool.flush()
            with pytest.raises(error) as told:
                await uplink.send(JOB, to, spool, ((), "boundary"))
    assert answer is None or told.value.code == "too_large"
