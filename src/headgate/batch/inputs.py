"""The input of one batch: found once, and read in pieces where lines are that begin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.batch.parts import owner_of
from headgate.batch.reading import InputRefused
from headgate.wire.batches import BatchError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headgate.batch.parts import Parts
    from headgate.shelf import StoredFile
    from headgate.wire.batchjobs import BatchJob, Claim

_PIECE: Final = 1 << 20  # bytes that are read at once


class Input:
    """The input of a batch.

    Args:
        parts: of the process.
        job: whose it is.
    """

    def __init__(self, parts: Parts, job: BatchJob) -> None:
        self._parts = parts
        self._job = job
        self._found: StoredFile | None = None

    async def file(self) -> StoredFile:
        """Return the file. Raises `InputRefused`: it is gone."""
        if self._found is None:
            self._found = await self._parts.files.find(owner_of(self._job), self._job.input_file)
        if self._found is None:
            raise InputRefused(
                BatchError("file_not_found", f"The input file {self._job.input_file} is gone.")
            )
        return self._found

    async def lines(self, claims: list[Claim]) -> AsyncIterator[tuple[Claim, bytes]]:
        """Yield lines with their bytes.

        Raises:
            InputRefused: the file is gone.
            Unavailable: the storage does not answer.
        """
        file = await self.file()
        for piece in _together(claims):
            first, last = piece[0], piece[-1]
            end = last.at + last.size
            data = b"".join([part async for part in self._parts.files.read(file, first.at, end)])
            for claim in piece:
                begin = claim.at - first.at
                yield claim, data[begin : begin + claim.size]


def _together(claims: list[Claim]) -> list[list[Claim]]:
    """Return lines that are read in one: neighbours, up to a piece of the file."""
    pieces: list[list[Claim]] = []
    for claim in sorted(claims, key=lambda each: each.at):
        last = pieces[-1] if pieces else None
        if last is not None and claim.at + claim.size - last[0].at <= _PIECE:
            last.append(claim)
        else:
            pieces.append([claim])
    return pieces
