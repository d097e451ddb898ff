"""One caller reads a recording: the answer as it was, under a head of its own.

Every call but the recorded is a replay: a call with its own id and cost 0, which says whose answer that is.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from headgate.errors import CallerError, GatewayError, Gone, Unavailable
from headgate.providers.stream import KEEP_ALIVE

if TYPE_CHECKING:
    from headgate.ports import Sink
    from headgate.recordings.recording import Recording
    from headgate.values import Call

# Header lines that say something of one call alone.
_OWN: Final = (
    b"x-request-id:", b"request-id:", b"openai-processing-ms:", b"x-headgate-cost:", b"x-headgate-queued-ms:",
    b"x-ratelimit-", b"anthropic-ratelimit-", b"idempotent-replayed:", b"x-headgate-replay-of:",
)  # fmt: skip
_NS_PER_MS: Final = 1_000_000


class AskAgain(Exception):
    """The recording came to nothing and nothing was shown of it: whoever waited may ask for it anew."""


class Desk(Protocol):
    """Who books replays, and tells errors in a stream."""

    def replayed(self, call: Call, recording: Recording) -> None:
        """Book a replay. Raises `Unavailable` where the books cannot take it."""
        ...

    def break_off(self, call: Call, error: GatewayError, sink: Sink) -> None:
        """Send an error event into a stream that has begun, and end it."""
        ...

    def took_ms(self, call: Call) -> int:
        """Return how long a call has been here."""
        ...


class Reading:
    """Copy a recording to a caller. Implements `recording.Reader`.

    Args:
        call: the caller's.
        sink: where it goes.
        desk: who books it.
        numbered: each event is preceded by its number, from 1.
        skip: how many events the caller has already.
    """

    __slots__ = ("_call", "_desk", "_events", "_numbered", "_sink", "_skip", "_started", "_woken", "position")

    def __init__(self, call: Call, sink: Sink, desk: Desk, *, numbered: bool = False, skip: int = 0) -> None:
        self.position = 0
        self._call = call
        self._sink = sink
        self._desk = desk
        self._numbered = numbered
        self._skip = skip
        self._events = 0
        self._started = False
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look again."""
        self._woken.set()

    async def copy(self, recording: Recording) -> None:
        """Copy from the beginning, or behind what is skipped, to the end.

        Raises:
            AskAgain: it came to nothing; nothing was sent.
            GatewayError: the same, and why.
        """
        if not recording.attach(self):
            raise Gone("The beginning of this answer is no longer here: it was too long to be kept.")
        self._sink.on_gone(self.wake)
        self._sink.on_quiet(partial(self._keep_alive, recording))
        try:
            await self._copy(recording)
        except GatewayError as error:
            if not self._started:
                raise
            self._break_off(recording, error)
        finally:
            recording.detach(self)

    async def _copy(self, recording: Recording) -> None:
        while not (recording.status or recording.gone or self._sink.gone):
            await self._more()
        if not recording.status:
            self._give_up(recording)
            return
        if self._skip and (recording.length is not None or recording.status >= 300):
            raise CallerError(
                "This answer is no stream of events. Ask without Last-Event-ID: you get all of it."
            )
        if recording.length is not None:
            await self._whole(recording)
        else:
            await self._stream(recording)

    def _keep_alive(self, recording: Recording) -> None:
        """Tell the caller of a stream, who has long heard nothing, that it lives."""
        recording.begin_early()
        if self._skip > self._events or b"content-type: text/event-stream" not in recording.lines:
            return
        with suppress(Unavailable):  # the books are away: it is told when there is an answer
            self._open(recording)
            face = self._call.face
            self._sink.write(KEEP_ALIVE if face is None else face.keep_alive)

    def _give_up(self, recording: Recording) -> None:
        """Take note that there is no answer."""
        if self._sink.gone:
            return
        if recording.error is not None:
            raise recording.error
        raise AskAgain

    async def _whole(self, recording: Recording) -> None:
        while not (recording.ended or recording.gone or self._sink.gone):
            await self._more()
        if not recording.ended:
            self._give_up(recording)
            return
        body = recording.since(0)
        self.position = len(body)
        self._sink.whole(recording.status, self._begin(recording), body)

    async def _stream(self, recording: Recording) -> None:
        sink = self._sink
        while not sink.gone:
            data = recording.since(self.position)
            if data:
                self.position += len(data)
                await self._pass_on(recording, data)
            elif recording.ended or recording.gone:
                self._end(recording)
                return
            else:
                await self._more()

    async def _pass_on(self, recording: Recording, data: bytes) -> None:
        """Send what the caller has not had of some whole events."""
        data = self._behind(data)
        if self._events >= self._skip:
            self._open(recording)
            self._sink.write(data)
            await self._sink.drained()
        recording.took()

    def _open(self, recording: Recording) -> None:
        """Send the head of a stream, once."""
        if not self._started:
            self._sink.start(recording.status, self._begin(recording), None)

    def _end(self, recording: Recording) -> None:
        if self._skip > self._events:
            raise CallerError(
                f"This stream has {self._events} events, so {self._skip} is the number of none.",
                param="Last-Event-ID",
                code="invalid_value",
            )
        if recording.ended:
            self._open(recording)
            self._sink.finish()
        elif self._started:
            self._sink.abort()
        else:
            self._give_up(recording)

    def _behind(self, data: bytes) -> bytes:
        """Return what the caller has not had of some whole events, with their numbers."""
        if not (self._numbered or self._skip):
            return data
        *events, rest = data.split(b"\n\n")
        out = []
        for event in events:
            self._events += 1
            if self._events > self._skip:
                out.append(b"id: %d\n%b\n\n" % (self._events, event) if self._numbered else event + b"\n\n")
        return b"".join(out) + rest

    async def _more(self) -> None:
        await self._woken.wait()
        self._woken.clear()

    def _begin(self, recording: Recording) -> bytes:
        """Return the lines of the head."""
        label, call = recording.label, self._call
        asked = b""
        if self._numbered and label.resume_s:
            asked = b"x-headgate-resume: req_%b\r\n" % label.call.hex().encode()
        if call.id == label.call:
            self._started = True
            return recording.lines + asked
        if recording.status < 300:
            self._desk.replayed(call, recording)
        self._started = True
        lines = [line for line in recording.lines.splitlines(keepends=True) if not line.startswith(_OWN)]
        lines += (
            b"x-request-id: %b\r\n" % call.request_id.encode(),
            b"openai-processing-ms: %d\r\n" % self._desk.took_ms(call),
            b"x-headgate-replay-of: req_%b\r\n" % label.call.hex().encode(),
        )
        if label.keyed:
            lines.append(b"idempotent-replayed: true\r\n")
        if recording.status < 300 and recording.length is not None:
            lines.append(b"x-headgate-cost: 0.000000000\r\n")
        return b"".join(lines) + asked

    def _break_off(self, recording: Recording, error: GatewayError) -> None:
        """Tell an error in an answer that has begun."""
        if b"content-type: text/event-stream" in recording.lines:
            self._desk.break_off(self._call, error, self._sink)
        else:
            self._sink.abort()
