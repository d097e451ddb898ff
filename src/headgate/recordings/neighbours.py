"""Recordings across the workers of a gateway: ours for those who read elsewhere, and those of others for us.

Nothing is written of an answer on its way before another worker wants it. Both sides look at the store from
time to time. What a dead worker recorded is lost once it is started again, and who follows it learns that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from headgate.errors import Unavailable
from headgate.wire.recorded import Recorded, State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headgate.ports import Clock
    from headgate.recordings.recording import Recording
    from headgate.values import WallMicros
    from headgate.wire.recorded import Progress

_LOOK_S: Final = 0.1  # at what other workers want of ours
_FOLLOW_S: Final = 0.05  # at what another worker has
_WANTED_US: Final = 5_000_000  # how long a follower is known to read
_NONE: Final = frozenset({State.LOST, State.DROPPED, State.EXPIRED})
_encode = msgspec.msgpack.encode
_head = msgspec.msgpack.Decoder(Recorded).decode


class Board(Protocol):
    """Where workers see of each other's recordings. Every method raises `Unavailable`."""

    async def wanted(self, slot: int, now: WallMicros) -> list[bytes]:
        """Return the calls whose recordings other workers read while they are made."""
        ...

    async def tell(self, call: bytes, first: int, parts: Sequence[bytes]) -> None:
        """Show parts of a recording, from a number on, to other workers."""
        ...

    async def follow(self, call: bytes, known: int, until: WallMicros) -> Progress | None:
        """Return what came behind the parts that are known, and want more; None where it was forgotten."""
        ...


class _Shown:
    """How much of a recording has been shown."""

    __slots__ = ("parts", "size")

    def __init__(self) -> None:
        self.parts = 0
        self.size = 0


class Neighbours:
    """The other workers, as one worker sees them.

    Args:
        board: where they see of each other.
        slot: of this worker.
        clock: wall time.
        trouble: told when something that nobody waits for could not be done.
    """

    def __init__(self, board: Board, slot: int, clock: Clock, trouble: Callable[[str], None]) -> None:
        self._board = board
        self._slot = slot
        self._clock = clock
        self._trouble = trouble

    async def show(self, own: Mapping[bytes, Recording]) -> None:
        """Show the others what they want of our recordings, for as long as there are any."""
        shown: dict[bytes, _Shown] = {}
        while own:
            try:
                await self._show_all(own, shown)
            except Unavailable as fault:
                self._trouble(fault.message)
            shown = {call: each for call, each in shown.items() if call in own}
            await asyncio.sleep(_LOOK_S)

    async def _show_all(self, own: Mapping[bytes, Recording], shown: dict[bytes, _Shown]) -> None:
        wanted = await self._board.wanted(self._slot, self._clock.wall())
        for call, recording in tuple(own.items()):
            recording.wanted = call in wanted
            if recording.wanted and recording.status and recording.kept:
                await self._show(recording, shown.setdefault(call, _Shown()))

    async def _show(self, recording: Recording, shown: _Shown) -> None:
        parts = [recording.since(shown.size)] if recording.size > shown.size else []
        size = recording.size
        if not shown.parts:
            parts.insert(0, _encode(recording.recorded(with_body=False)))
        await self._board.tell(recording.label.call, shown.parts, parts)
        shown.parts += len(parts)
        shown.size = size

    async def follow(self, recording: Recording) -> None:
        """Take what another worker records, for as long as anybody here reads it."""
        call, known = recording.label.call, 0
        while not (recording.ended or recording.gone):
            progress = await self._board.follow(call, known, self._clock.wall() + _WANTED_US)
            if progress is None or progress.state in _NONE:
                return
            for part in progress.parts:
                if recording.status:
                    recording.write(part)
                else:
                    begin(recording, _head(part))
            known += len(progress.parts)
            if progress.recorded is not None:
                play(recording, progress.recorded)
            else:
                await asyncio.sleep(_FOLLOW_S)


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
