"""Publish the outputs of a batch: a file of answers and one of errors, each there whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.batch.parts import owner_of
from headgate.shelf import FileLabel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headgate.batch.parts import Parts
    from headgate.wire.batches import BatchStatus
    from headgate.wire.batchjobs import KeptBatch

_PURPOSE: Final = "batch_output"
_PAGE: Final = 200  # lines
_RECENT: Final = 100  # files among which those of an earlier try are
_DAY_US: Final = 86_400_000_000
_KEPT_DAYS: Final = 30


async def publish(parts: Parts, batch: KeptBatch, now: int) -> bool:
    """Publish what came of a batch that this worker owns; False: somebody else has it now."""
    job = batch.job
    known = await _earlier(parts, batch)
    names = {}
    for answered, what in ((True, "output"), (False, "error")):
        filename = f"{job.id}_{what}.jsonl"
        names[what] = known.get(filename) or await _write(parts, batch, filename, now, answered=answered)
    status: BatchStatus = "expired" if job.late else "completed"
    if job.times.cancelling:
        status = "cancelled"
    times = msgspec.structs.replace(job.times, **{status: now})
    job = msgspec.structs.replace(job, times=times, output_file=names["output"], error_file=names["error"])
    parts.stages.failpoints.hit("batch-file-written")
    ended = await parts.store.publish(msgspec.structs.replace(batch, job=job, status=status))
    parts.stages.failpoints.hit("batch-published")
    return ended


async def _earlier(parts: Parts, batch: KeptBatch) -> dict[str, str]:
    """Return the files that a process wrote which stopped before it could say so."""
    found = await parts.files.listed(owner_of(batch.job), _PURPOSE, "", _RECENT, newest=True)
    return {file.label.filename: file.id for file in found or ()}


async def _write(parts: Parts, batch: KeptBatch, filename: str, now: int, *, answered: bool) -> str:
    """Write one file; return its id, empty where it has no lines."""
    if not await parts.store.outputs(batch.n, 0, 1, answered=answered):
        return ""
    job = batch.job
    kept_us = job.kept_s * 1_000_000 if job.kept_s else _KEPT_DAYS * _DAY_US
    label = FileLabel(_PURPOSE, filename, "application/jsonl", now + kept_us)
    source = _pages(parts, batch.n, answered=answered)
    return (await parts.files.create(owner_of(job), label, source)).id


async def _pages(parts: Parts, n: int, *, answered: bool) -> AsyncIterator[bytes]:
    after = 0
    while page := await parts.store.outputs(n, after, _PAGE, answered=answered):
        yield b"".join(output for _, output in page)
        after = page[-1][0]
