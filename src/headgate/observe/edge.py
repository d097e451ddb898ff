"""What the edge reports that no call sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.errors import GatewayError
    from headgate.observe.log import Log
    from headgate.observe.metrics import Metrics


class EdgeLog:
    """Count it, and log what is a bug of ours. Implements `http.edge.EdgeEvents`."""

    __slots__ = ("_log", "_metrics")

    def __init__(self, metrics: Metrics, log: Log) -> None:
        self._metrics = metrics
        self._log = log

    def refused(self, error: GatewayError) -> None:
        """Count a request that was refused before it had a route."""
        self._metrics.refused("edge", error)

    def fault(self, where: str, fault: BaseException) -> None:
        """Log a bug of ours."""
        self._log.fault(where, fault)
