"""Hosts that have OpenAI's batch API, with bounds or a version of their own.

Facts, of their makers' pages: Groq (chat, 50,000 lines, 100 MB of a file), Alibaba's Model Studio (chat and
embeddings, 50,000 lines, 500 MB), Moonshot (chat, 100 MB), Zhipu (chat and embeddings, under `/v4` also where
a line says what it is for, 50,000 lines, 100 MB), Cerebras (chat, 50,000 lines, 200 MB).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.providers.batches import OpenAIBatches
from headgate.wire.batches import MOST_LINES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.values import Operation
    from headgate.wire.batchjobs import BatchJob

_MB = 1_000_000


class HostBatches(OpenAIBatches):
    """Speak OpenAI's wire as a host has it.

    Args:
        operations: that it takes.
        most_mb: of the lines of one batch.
        version: that stands in what requests are for.
    """

    __slots__ = ("_version", "most_bytes", "operations")
    most_lines = MOST_LINES

    def __init__(self, operations: Iterable[Operation], most_mb: int = 199, version: str = "v1") -> None:
        self.operations: frozenset[Operation] = frozenset(operations)
        self.most_bytes = most_mb * _MB
        self._version = version

    def _endpoint(self, job: BatchJob) -> str:
        return job.endpoint.replace("/v1/", f"/{self._version}/", 1)
