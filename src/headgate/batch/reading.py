"""Read the input of a batch: every line is checked and weighed before the first one runs.

What is wrong with the file ends the batch as `failed`, with the lines that are wrong. What is wrong with a
request itself does not: its line gets the error that the call would have got.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from headgate.admission.bounds import assumed_output, bound, most_used, rough_input
from headgate.admission.reserve import unpriced
from headgate.batch.money import Weight
from headgate.choices import come_apart
from headgate.errors import CallerError, Fenced, GatewayError, NotFound, Unavailable
from headgate.identity.standing import allow
from headgate.money.batchterms import BATCH
from headgate.values import Call
from headgate.wire.batches import (
    MOST_BYTES,
    MOST_INPUTS,
    MOST_LINES,
    BatchError,
    LineRefused,
    line_error,
    read_line,
)
from headgate.wire.batchjobs import NewLine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headgate.batch.parts import Parts
    from headgate.pipeline import Pipeline
    from headgate.values import Principal, Target
    from headgate.wire.batchjobs import KeptBatch, Passed

_MOST_ERRORS: Final = 100  # that are told of one file
_AT_ONCE: Final = 500  # lines in one write to the store
_SPELL_S: Final = 0.003  # of work without a pause for others


class InputRefused(Exception):
    """A batch cannot be run."""

    def __init__(self, *errors: BatchError) -> None:
        super().__init__(errors[0].message)
        self.errors = errors


class Terms(NamedTuple):
    """How the lines of a batch are weighed."""

    capped: bool  # something limits what it may spend
    in_tokens: bool = False  # a grant in tokens covers it, so its lines hold tokens


class Reader:
    """Reads the input of one batch, and weighs its lines.

    Args:
        parts: of the process.
        pipeline: of the calls of lines.
        batch: owned by this worker.
        principal: whose it is.
        terms: how its lines are weighed.
    """

    def __init__(
        self, parts: Parts, pipeline: Pipeline, batch: KeptBatch, principal: Principal, terms: Terms
    ) -> None:
        self.model = ""
        self.first: Target | None = None  # of its model
        self.ours = 0  # the first line that is none for a provider's own batch API; 0: each is one
        self.tokens = 0  # of the input, roughly
        self.weight = Weight()  # of all lines
        self.lines = 0
        self._inputs = 0
        self._parts = parts
        self._pipeline = pipeline
        self._batch = batch
        self._principal = principal
        self._terms = terms
        self._operation = parts.operations[batch.job.endpoint]
        self._seen: set[str] = set()
        self._errors: list[BatchError] = []
        self._fresh: list[NewLine] = []
        self._stored = False

    async def read(self, data: AsyncIterator[bytes], size: int) -> None:
        """Read the file and keep its lines.

        Raises:
            InputRefused: what is wrong with it.
            Fenced: somebody else has the batch now, or it is cancelled.
            Unavailable: the storage does not answer.
        """
        if size > MOST_BYTES:
            raise InputRefused(
                BatchError("file_too_large", f"The file has {size:,} bytes; at most {MOST_BYTES:,} fit.")
            )
        since = time.monotonic()
        async for at, line in lines_of(data, self._parts.largest):
            if line is None:
                self._wrong(BatchError("request_too_large", "This line is too long.", None, self.lines + 1))
                break
            await self._take(at, line)
            if len(self._errors) >= _MOST_ERRORS or self.lines > MOST_LINES:
                break
            if time.monotonic() - since > _SPELL_S:
                await asyncio.sleep(0)
                since = time.monotonic()
        self._finish()
        await self._keep()

    def _finish(self) -> None:
        if self.lines > MOST_LINES:
            raise InputRefused(
                BatchError("too_many_tasks", f"A batch may have at most {MOST_LINES:,} requests.")
            )
        if self._inputs > MOST_INPUTS:
            raise InputRefused(
                BatchError(
                    "too_many_inputs",
                    f"The requests of a batch of embeddings may have {MOST_INPUTS:,} inputs together; these "
                    f"have {self._inputs:,}.",
                )
            )
        if not (self.lines or self._errors):
            raise InputRefused(
                BatchError(
                    "empty_file",
                    "The input file is empty. Please ensure that the batch contains at least one request.",
                )
            )
        if self._errors:
            raise InputRefused(*self._errors)

    def _wrong(self, error: BatchError) -> None:
        self._errors.append(error)

    async def _take(self, at: int, data: bytes) -> None:
        """Take one line."""
        self.lines += 1
        number = self.lines
        try:
            line = read_line(data, number, self._batch.job.endpoint)
            self._meet(line.custom_id, number)
            weight = await self._weigh(line.body, number)
        except LineRefused as refused:
            self._wrong(refused.error)
            return
        if self._errors:
            return
        held, self.weight = self.weight, self.weight.plus(weight)
        start, end = (each.tokens if self._terms.in_tokens else each.money for each in (held, self.weight))
        self._fresh.append(NewLine(number, at, len(data), line.custom_id, start, end - start))
        if len(self._fresh) >= _AT_ONCE:
            await self._keep()

    def _meet(self, custom_id: str, number: int) -> None:
        """Take note of an id. Raises `LineRefused`: another line has it."""
        if custom_id in self._seen:
            raise LineRefused(
                BatchError(
                    "duplicate_custom_id",
                    f"The custom_id '{custom_id[:100]}' of this request is a duplicate of that of another. "
                    "It must be unique in a batch.",
                    "custom_id",
                    number,
                )
            )
        self._seen.add(custom_id)

    async def _keep(self) -> None:
        fresh, self._fresh = self._fresh, []
        if not await self._parts.store.add_lines(self._batch, fresh, first=not self._stored):
            raise Fenced("Somebody else has this batch now.")
        self._stored = True

    async def _weigh(self, body: bytes, number: int) -> Weight:
        """Return what a request may cost; nothing where it cannot be served, which its call will say.

        Raises:
            LineRefused: it is not one for a batch, or not for this one.
        """
        call = Call(self._batch.job.call, self._operation, 0)
        call.principal = self._principal
        try:
            self._parts.parse(body, call)
        except CallerError as error:
            if error.code == "missing_required_parameter" and error.param == "model":
                raise LineRefused(line_error(error, number)) from error
            return Weight()
        self._check(call, number)
        self.tokens += rough_input(call)
        if self._operation == "embeddings":
            self._inputs += call.inputs
        call.tier = BATCH
        try:
            targets = await self._pipeline.fitting(call, self._parts.routes())
        except NotFound as error:
            raise LineRefused(line_error(error, number, "model")) from error
        except CallerError:
            return Weight()
        except GatewayError as error:
            if isinstance(error, Unavailable) and error.retry_after_s is None:  # waiting does not help
                raise LineRefused(line_error(error, number)) from error
            raise Unavailable(error.message) from error
        self.first = self.first or targets[0]
        if not self._parts.uplink.takes(call, targets[0]):
            self.ours = self.ours or number
        return self._bound(call, targets, number)

    def _check(self, call: Call, number: int) -> None:
        if call.stream:
            raise LineRefused(
                BatchError(
                    "invalid_value",
                    "Streaming is not supported in a batch: leave out 'stream'.",
                    "body.stream",
                    number,
                )
            )
        if not self.model:
            self.model = call.model
        if call.model != self.model:
            raise LineRefused(
                BatchError(
                    "model_mismatch",
                    f"The model '{call.model[:100]}' of this request does not match that of the others, "
                    f"'{self.model[:100]}'. The requests of a batch are for one model.",
                    "body.model",
                    number,
                )
            )
        try:
            allow(self._principal, self._operation, call.model)
        except CallerError as error:
            raise LineRefused(line_error(error, number)) from error

    def _bound(self, call: Call, targets: tuple[Target, ...], number: int) -> Weight:
        if self._terms.capped:
            if any(target.prices is None for target in targets):
                raise LineRefused(line_error(unpriced(call), number))
            call.shrunk_to = assumed_output(call, targets)
        each = 1
        if call.n > 1 and come_apart(call, targets):
            self.ours, each = self.ours or number, call.n  # they are asked for one by one: each has the input
        tokens, other = most_used(call, targets)
        return Weight(bound(call, targets) * each, tokens * each, not other)


async def lines_of(data: AsyncIterator[bytes], longest: int) -> AsyncIterator[tuple[int, bytes | None]]:
    """Yield where each line begins and the line, without its end; None: it is too long, and the last.

    A line break at the end of the file begins no line.
    """
    at = size = 0
    begun: list[bytes] = []  # of a line that has not ended: a long one comes in hundreds of pieces
    async for piece in data:
        end, *following = piece.split(b"\n")
        begun.append(end)
        size += len(end)
        for rest in following:
            if size > longest:
                break
            yield at, b"".join(begun).removesuffix(b"\r")
            at += size + 1
            begun, size = [rest], len(rest)
        if size > longest:
            yield at, None
            return
    if size:
        yield at, b"".join(begun).removesuffix(b"\r")


def begun(batch: KeptBatch, reader: Reader, now: int, passed: Passed | None) -> KeptBatch:
    """Return a batch as it is once its input was read, to be run by its provider or by us."""
    times = msgspec.structs.replace(batch.job.times, in_progress=now)
    job = msgspec.structs.replace(batch.job, times=times, model=reader.model, passed=passed)
    return msgspec.structs.replace(batch, job=job, counts=batch.counts._replace(total=reader.lines))
