"""Recordings across workers, of one node or more: ours for those who read elsewhere, those of others for us.

Nothing is written of an answer on its way before another worker wants it. Both sides look at the store from
time to time. What a dead worker recorded is lost once it is started again, and who follows it learns that;
what a worker of another node recorded, also once that has given no sign of life for a while.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from headgate.errors import Unavailable
from headgate.wire.recorded import Recorded, State

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from headgate.ports import Clock
    from headgate.recordings.recording import Recording
    from headgate.values import WallMicros
    from headgate.wire.recorded import Progress

_LOOK_S: Final = 0.1  # at what other workers want of ours
_IDLE_S: Final = 1.0  # and whether they want what we do not have
_FOLLOW_S: Final = 0.05  # at what another worker has
_AT_ONCE: Final = 16  # recordings that are followed so often; of more each is looked at less often
_SILENT_NS: Final = 10_000_000_000  # a worker that gives no sign of life for so long is dead, or as good
_NONE: Final = frozenset({State.LOST, State.DROPPED, State.EXPIRED})
_encode = msgspec.msgpack.encode
_head = msgspec.msgpack.Decoder(Recorded).decode


class Board(Protocol):
    """Where workers see of each other's recordings. Every method raises `Unavailable`."""

    async def wanted(self, slot: int, now: WallMicros, /) -> list[bytes]:
        """Return the calls whose recordings other workers read while they are made."""
        ...

    async def tell(self, call: bytes, first: int, parts: Sequence[bytes]) -> None:
        """Show parts of a recording, from a number on, to other workers; the same again is no harm."""
        ...

    async def follow(self, call: bytes, known: int, now: WallMicros, /) -> Progress | None:
        """Return what came behind the parts that are known, and want more; None where it was forgotten."""
        ...

    async def give_up(self, call: bytes) -> None:
        """Take note that nobody makes a call whose recording is open: it is lost."""
        ...


class _Shown:
    """How much of a recording has been shown; what is pending may have been, and is told again as it is."""

    __slots__ = ("parts", "pending", "size")

    def __init__(self) -> None:
        self.parts = 0
        self.size = 0
        self.pending: list[bytes] = []


class Neighbours:
    """The other workers, as one worker sees them.

    Args:
        board: where they see of each other.
        slot: of this worker.
        clock: wall time, and time that passes.
        trouble: told when something that nobody waits for could not be done.
    """

    def __init__(self, board: Board, slot: int, clock: Clock, trouble: Callable[[str], None]) -> None:
        self._board = board
        self._slot = slot
        self._clock = clock
        self._trouble = trouble
        self._following = 0

    async def show(
        self, own: Mapping[bytes, Recording], claiming: Callable[[], Container[bytes]], *, always: bool
    ) -> None:
        """Show the others what they want of our recordings.

        Args:
            own: the recordings that are made here, by their calls.
            claiming: returns the calls that may become such.
            always: go on also while there are none: others may want what was claimed here unknown to us.
        """
        shown: dict[bytes, _Shown] = {}
        said = ""
        while own or always:
            try:
                await self._show_all(own, claiming, shown)
                said = ""
            except Unavailable as fault:
                if not said:  # else each look would say so
                    self._trouble(fault.message)
                said = fault.message
            shown = {call: each for call, each in shown.items() if call in own}
            await asyncio.sleep(_LOOK_S if own else _IDLE_S)

    async def _show_all(
        self,
        own: Mapping[bytes, Recording],
        claiming: Callable[[], Container[bytes]],
        shown: dict[bytes, _Shown],
    ) -> None:
        wanted = await self._board.wanted(self._slot, self._clock.wall())
        for call, recording in tuple(own.items()):
            recording.wanted = call in wanted
            if recording.wanted and recording.status and recording.kept:
                await self._show(recording, shown.setdefault(call, _Shown()))
        for call in wanted:
            if call not in own and call not in claiming():
                await self._board.give_up(call)

    async def _show(self, recording: Recording, shown: _Shown) -> None:
        if not shown.pending:
            if recording.size > shown.size:
                shown.pending.append(recording.since(shown.size))
                shown.size = recording.size
            if not shown.parts:
                shown.pending.insert(0, _encode(recording.recorded(with_body=False)))
        if shown.pending:
            await self._board.tell(recording.label.call, shown.parts, shown.pending)
            shown.parts += len(shown.pending)
            shown.pending = []

    async def follow(self, recording: Recording) -> None:
        """Take what another worker records, for as long as anybody here reads it."""
        self._following += 1
        try:
            await self._follow(recording)
        finally:
            self._following -= 1

    async def _follow(self, recording: Recording) -> None:
        call, known = recording.label.call, 0
        beat, beat_at = None, self._clock.monotonic()
        while not recording.gone:
            progress = await self._board.follow(call, known, self._clock.wall())
            if progress is None or progress.state in _NONE:
                return
            _take(recording, progress)
            if recording.ended:
                return
            known += len(progress.parts)
            now = self._clock.monotonic()
            if progress.beat is None or progress.beat != beat:
                beat, beat_at = progress.beat, now
            elif now - beat_at > _SILENT_NS:
                await self._board.give_up(call)
                return
            await asyncio.sleep(_FOLLOW_S * max(1.0, self._following / _AT_ONCE))


def _take(recording: Recording, progress: Progress) -> None:
    """Give a recording what has come of it elsewhere."""
    for part in progress.parts:
        if recording.status:
            recording.write(part)
        else:
            begin(recording, _head(part))
    if progress.recorded is not None:
        play(recording, progress.recorded)


def begin(recording: Recording, recorded: Recorded) -> None:
    """Give a recording the head of another."""
    recording.operation, recording.model = recorded.operation, recorded.model
    recording.start(recorded.status, recorded.lines, recorded.length)


def play(recording: Recording, recorded: Recorded) -> None:
    """Give a recording what it lacks of a whole one."""
    if not recording.status:
        begin(recording, recorded)
    recording.write(recorded.body[recording.size :])
    recording.finish()
