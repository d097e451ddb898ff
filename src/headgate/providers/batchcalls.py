"""Batch APIs that take each line as a call: at another path, for less, answered once there is room for it.

Facts, of Volcengine's pages on Batch Chat (82379/1399517 and 82379/1449576) and its SDKs (`resources/batch`):
`POST /api/v3/batch/chat/completions` and `/batch/embeddings` take what the same paths without `/batch` take,
but no streams, with the same key; `model` is an endpoint for batches, `ep-bi-…`. Who asks waits on the open
connection, for half an hour and more, with thousands of calls at once. What met 429, 5xx or a broken
connection is asked again until the caller's time is over; `Retry-After` is kept to, and after it one call
goes first, then twice as many each second. Half of the price is billed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.values import Host, Operation, Target

AT_ONCE: Final = 1_000  # lines of a model that wait there, where the settings do not say
_SHORTEST_S: Final = 1.0


class BatchCalls:
    """Speak such an API, whose calls are those of the host's own wire.

    Args:
        operations: that it takes.
        prefix: of the paths of these calls.
        endpoint: how the names begin that it takes for models.
    """

    __slots__ = ("_prefix", "endpoint", "operations")

    def __init__(self, operations: Iterable[Operation], prefix: str, endpoint: str) -> None:
        self.operations = frozenset(operations)
        self._prefix = prefix
        self.endpoint = endpoint

    def named(self, host: Host, model: str) -> str:
        """Return what a model is called there."""
        return host.handover.models.get(model, model)

    def at(self, target: Target, left_s: float) -> Target:
        """Return a target as it is asked for the lines of batches.

        Args:
            target: as it is asked for calls.
            left_s: how long it may take to answer.
        """
        host, model = target.host, target.model
        left_s = max(_SHORTEST_S, left_s)
        return msgspec.structs.replace(
            target,
            model=msgspec.structs.replace(model, name=self.named(host, model.name)),
            base_path=target.base_path + self._prefix,
            deadlines=msgspec.structs.replace(target.deadlines, first_byte_s=left_s, total_s=left_s),
        )
