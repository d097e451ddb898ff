"""Replays: calls that are given the recorded answer of another call. Each is in the books, at cost 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.ports import Open, Settle
from headgate.values import Prices, Usage

if TYPE_CHECKING:
    from headgate.errors import GatewayError
    from headgate.pipeline import Stages
    from headgate.ports import Sink
    from headgate.recordings.recording import Recording
    from headgate.values import Call

_FREE: Final = Prices()
_NOTHING: Final = Usage()
PROVIDER: Final = "replay"  # who answered, in reports


class Replays:
    """Book replays, and tell their callers what goes wrong. Implements `reading.Desk`.

    Args:
        stages: of the pipeline.
    """

    __slots__ = ("_answers", "_ledger")

    def __init__(self, stages: Stages) -> None:
        self._ledger = stages.ledger
        self._answers = stages.answers

    def replayed(self, call: Call, recording: Recording) -> None:
        """Book a replay, before its first byte goes out. Raises `Unavailable` if the books cannot take it."""
        ledger, principal = self._ledger, call.principal
        assert principal is not None
        now = ledger.clock.wall()
        opened = Open(
            call.id,
            0,
            now,
            principal.book,
            principal.account,
            principal.project,
            principal.key,
            principal.member,
            call.operation,
            call.model,
            PROVIDER,
            call.model,
            _FREE,
            _FREE,
            0,
            0,
            streamed=recording.length is None,
            replay_of=recording.label.call.hex(),
        )
        settled = Settle(call.id, 0, now, recording.status, _NOTHING, 0, 0, (0,))
        ledger.journal.open(opened)
        ledger.journal.settle(settled)
        ledger.observer.settled(opened, settled)

    def break_off(self, call: Call, error: GatewayError, sink: Sink) -> None:
        """Send an error event into a stream that has begun, and end it."""
        self._answers.break_off(call, error, sink, shown=False)

    def took_ms(self, call: Call) -> int:
        """Return how long a call has been here."""
        return (self._ledger.clock.monotonic() - call.received_ns) // 1_000_000
