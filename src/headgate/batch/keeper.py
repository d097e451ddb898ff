"""What callers ask of batches: order one, look, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.errors import CallerError, GatewayError, NotFound
from headgate.shelf import FileOwner
from headgate.wire.batches import MOST_BYTES, read_order
from headgate.wire.batchjobs import BatchJob

if TYPE_CHECKING:
    from headgate.batch.parts import Parts
    from headgate.values import Call, Principal
    from headgate.wire.batchjobs import KeptBatch, Result

WINDOW_US: Final = 86_400_000_000
_PURPOSE: Final = "batch"


class Keeper:
    """The batches of one gateway. Implements `http.batches.Batches`.

    Args:
        parts: of the process.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def order(self, call: Call, body: bytes) -> KeptBatch:
        """Order a batch.

        Raises:
            GatewayError: what is wrong with the order; what is wrong with its file the batch will say.
        """
        order = read_order(body, self._parts.operations)
        principal = call.principal
        assert principal is not None
        now = self._parts.stages.ledger.clock.wall()
        owner = FileOwner(principal.account, principal.project, principal.book, principal.key)
        file = await self._parts.files.find(owner, order.input_file_id)
        if file is None:
            raise NotFound(f"No such File object: {order.input_file_id[:100]}", param="input_file_id")
        if file.label.purpose != _PURPOSE:
            raise CallerError(
                f"The file {file.id} has the purpose '{file.label.purpose}'. Upload the input of a "
                f"batch with the purpose '{_PURPOSE}'.",
                param="input_file_id",
                code="invalid_file_purpose",
            )
        if file.size > MOST_BYTES:
            raise CallerError(
                f"The input file has {file.size:,} bytes. The input of a batch has at most {MOST_BYTES:,}.",
                param="input_file_id",
                code="file_too_large",
            )
        batch = await self._parts.store.create(
            BatchJob(
                id=f"batch_{call.id.hex()}",
                call=call.id,
                account=principal.account,
                project=principal.project,
                key=principal.key,
                member=principal.member,
                book=principal.book,
                endpoint=order.endpoint,
                input_file=file.id,
                created_at=now,
                expires_at=now + WINDOW_US,
                kept_s=order.kept_s,
                metadata=order.metadata,
            )
        )
        self._parts.summons.order(batch)
        return batch

    async def find(self, principal: Principal, name: str) -> KeptBatch:
        """Return a batch of the caller's project. Raises `NotFound`."""
        batch = await self._parts.store.find(principal.project, principal.book, name)
        if batch is None:
            raise NotFound(f"No batch found with id '{name[:100]}'.", param="batch_id")
        return batch

    async def listed(self, principal: Principal, after: str, limit: int) -> list[KeptBatch]:
        """Return batches of the caller's project, the newest first. Raises `NotFound` for `after`."""
        found = await self._parts.store.listed(principal.project, principal.book, after, limit)
        if found is None:
            raise NotFound(f"No batch found with id '{after[:100]}'.", param="after")
        return found

    async def cancel(self, principal: Principal, name: str) -> KeptBatch:
        """Begin to cancel a batch. Raises `GatewayError`: there is none, or it is done."""
        now = self._parts.stages.ledger.clock.wall()
        batch = await self._parts.store.cancel(principal.project, principal.book, name, now)
        if isinstance(batch, GatewayError):
            raise batch
        self._parts.summons.order(batch)
        return batch

    async def results(self, batch: KeptBatch, after: int, limit: int) -> list[Result]:
        """Return the outputs that came behind another, until they are published."""
        return await self._parts.store.results(batch.n, after, limit)
