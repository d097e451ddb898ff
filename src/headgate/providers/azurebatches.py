"""Azure OpenAI's batches: OpenAI's wire under a resource's paths, with a look at a file before it is used.

The model of a request is a deployment for batches (`GlobalBatch` or `DataZoneBatch`). A batch has no end in
time there: who wants none later than 24 hours must cancel it.

Facts: Microsoft's page on batch deployments and its REST reference of Azure OpenAI (2024-10-21 and `v1`):
files of 200 MB with 100,000 requests; endpoints without `/v1`; times as RFC 3339 or as numbers; states with
or without a capital.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.errors import UpstreamRefused
from headgate.providers.azure import mistake
from headgate.providers.batches import OpenAIBatches
from headgate.providers.batchread import reader

if TYPE_CHECKING:
    from headgate.errors import UpstreamError
    from headgate.ports import Head, Request
    from headgate.values import Operation, Target
    from headgate.wire.batchjobs import BatchJob


class _File(msgspec.Struct, frozen=True):
    status: str = "processed"


_file = reader(msgspec.json.Decoder(_File))


class AzureBatches(OpenAIBatches):
    """Speak `/openai/files` and `/openai/batches`, of a dated version or of `v1`."""

    __slots__ = ()
    operations: frozenset[Operation] = frozenset({"chat"})
    most_lines = 100_000

    def readiness(self, target: Target, file: str) -> Request:
        """Return the request that asks whether a file can be used."""
        return self._get(target, f"/files/{file}")

    def ready(self, body: bytes) -> bool:
        """Return what its answer says. Raises `UpstreamRefused`: the file cannot be used."""
        status = _file(body).status.lower()
        if status in {"error", "failed", "deleted"}:
            raise UpstreamRefused("The provider cannot use the file of the requests.", upstream_status=400)
        return status == "processed"

    def _path(self, target: Target, path: str, query: str = "") -> str:
        version = target.host.api_version
        asked = "&".join(filter(None, (f"api-version={version}" if version else "", query)))
        place = target.base_path.removesuffix("/deployments")
        return place + path + (f"?{asked}" if asked else "")

    def _endpoint(self, job: BatchJob) -> str:
        return job.endpoint.removeprefix("/v1")

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means."""
        return mistake(head, body)
