"""One session: events are passed both ways as they came, and what they cost is watched.

The money for the next response is held before it can begin, also where the provider begins it by itself
(at the end of speech). A response is opened in the books when the provider says that it has begun, and
settled before its end is told.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate.channels import FAULT, GOING_AWAY, LOST, NORMAL, REFUSED
from headgate.errors import (
    CallerError,
    CallerGone,
    GatewayError,
    Internal,
    Limited,
    QuotaExceeded,
    Unavailable,
    UpstreamInterrupted,
    UpstreamTimeout,
)
from headgate.live.context import Context
from headgate.live.till import counted
from headgate.settle import HUNG_UP
from headgate.wire.realtime import (
    OUTPUT_AUDIO_CHARS,
    error_event,
    given,
    heard,
    read_client,
    read_server,
    renamed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import msgspec

    from headgate.admission.gates import Ticket
    from headgate.channels import Channel
    from headgate.live.till import Till, Turn
    from headgate.ports import Clock
    from headgate.values import Call, MonotonicNs, Target
    from headgate.wire.realtime import ClientEvent, Response, ServerEvent

_NS = 1_000_000_000
_LOOK_S = 0.5  # how often deadlines are looked at
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """How long a session may last; OpenAI ends its own after 60 minutes."""

    longest_s: float = 7_200.0
    idle_s: float = 1_800.0  # without an event from either side


class Session:
    """Both sides of one session, until one of them ends.

    Args:
        call: the session's own: its caller, and what its responses have as their parent.
        client: the caller.
        provider: who answers.
        till: what is held for the next response.
        scribe: returns the till of a model that writes down what is spoken in.
    """

    def __init__(
        self,
        call: Call,
        client: Channel,
        provider: Channel,
        till: Till,
        scribe: Callable[[str], Till],
    ) -> None:
        self._call = call
        self._client = client
        self._provider = provider
        self._till = till
        self._target: Target = till.targets[0]
        self._find_scribe = scribe
        self._scribe: Till | None = None
        self._context = Context()
        self._limit = till.limit()
        self._asked = 0  # output tokens: the most that a response was asked for by itself
        self._tickets: list[Ticket] = []  # of responses that were asked for and have not begun
        self._turns: dict[str, Turn] = {}
        self._events = 0
        self._heard: MonotonicNs = 0  # when the provider said something last
        self._spoke: MonotonicNs = 0  # and the client

    # ── from begin to end ───────────────────────────────────────────────────────────────────────

    async def run(self, clock: Clock, stopping: Callable[[], bool], limits: SessionLimits) -> None:
        """Pass events until the end, and tell the client why; raises bugs of ours, and cancellation."""
        began = self._heard = self._spoke = clock.monotonic()
        sides = [asyncio.ensure_future(self._hear_client()), asyncio.ensure_future(self._hear_provider())]
        code, reason, status = NORMAL, "", 200
        try:
            while not await self._either(sides):
                self._look(clock.monotonic(), began, stopping(), limits)
            (code, reason), status = self._provider.ending, UpstreamInterrupted.status
        except CallerGone:
            status = HUNG_UP
        except GatewayError as error:
            code, reason, status = _closing(error), error.message, error.http_status
            self._client.send(error_event(error, self._event_id()))
        except Exception:
            code, reason, status = FAULT, "The server had an error.", Internal.status
            self._client.send(error_event(Internal(reason), self._event_id()))
            raise
        finally:
            for side in sides:
                side.cancel()
            self._settle(status)
            self._provider.close(NORMAL)
            self._client.close(code, reason)
            await asyncio.gather(*sides, return_exceptions=True)

    async def _either(self, sides: Sequence[asyncio.Future[None]]) -> bool:
        """Wait for a moment; say whether a side has ended, and raise what ended it."""
        done, _ = await asyncio.wait(sides, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        for side in done:
            side.result()
        return bool(done)

    def _look(self, now: MonotonicNs, began: MonotonicNs, stopping: bool, limits: SessionLimits) -> None:
        """End a session that is too old, too quiet, or in the way of a stop."""
        if stopping and not self._turns:
            raise Unavailable("The gateway is shutting down. Open the session again.")
        if now - began >= limits.longest_s * _NS:
            raise CallerError(
                "The session has lasted as long as it may. Open another.", code="session_expired"
            )
        quiet_s = (now - self._heard) / _NS
        if self._turns and quiet_s >= self._target.deadlines.between_frames_s:
            raise UpstreamTimeout("The provider has stopped in the middle of a response (between_frames_s).")
        if (now - max(self._heard, self._spoke)) / _NS >= limits.idle_s:
            raise CallerError("The session has been idle for too long. Open another.", code="session_expired")

    def _settle(self, status: int) -> None:
        """Book what is open, give back what is held."""
        turns, self._turns = self._turns, {}
        for turn in turns.values():
            turn.cut(status)
        for ticket in self._tickets:
            self._till.cancel(ticket)
        self._till.release()
        if self._scribe is not None:
            self._scribe.release()

    def _event_id(self) -> str:
        self._events += 1
        return f"event_{self._call.id.hex()}{self._events:04d}"

    # ── from the client ─────────────────────────────────────────────────────────────────────────

    async def _hear_client(self) -> None:
        client, provider = self._client, self._provider
        await self._begin_with(self._call.members.get("session"))
        while (message := await client.receive()) is not None:
            self._spoke = self._till.clock.monotonic()
            cause = None
            try:
                event = read_client(message)
                cause = event.event_id
                told = await self._asks(event, message)
            except (CallerError, Limited) as error:
                if isinstance(error, QuotaExceeded):
                    raise
                client.send(error_event(error, self._event_id(), cause))
                continue
            provider.send(told)
            await provider.drained()
        raise CallerGone

    async def _begin_with(self, settings: msgspec.Raw | None) -> None:
        """Tell the provider the settings that a lent key holds, as if the client had said them."""
        if settings is None:
            return
        message = b'{"type":"session.update","session":%b}' % bytes(settings)
        self._provider.send(await self._asks(read_client(message), message))

    async def _asks(self, event: ClientEvent, message: bytes) -> bytes:
        """Take in what a client says; return what the provider is told.

        Raises:
            CallerError: the provider is not told.
            RateLimited: no response may begin now.
            QuotaExceeded: the money is gone.
        """
        context = self._context
        context.tell(*heard(event, message))
        if event.session is not None:
            message = self._settings(event, message)
        elif event.type == "response.create":
            asked = event.response.max_output_tokens if event.response is not None else None
            if event.response is not None and given(event.response.prompt):
                context.tell(self._target.model.context_window)
            if asked is not None:
                self._asked = asked if isinstance(asked, int) else self._till.limit()
            await self._till.secure(context.bound, self._most)
            self._tickets.append(await self._till.admit(context.bound, self._most))
            return message
        if not self._turns:  # else the money for the next one is held when they are done
            await self._till.secure(context.bound, self._most)
        return message

    def _settings(self, event: ClientEvent, message: bytes) -> bytes:
        """Take in the settings that a client asks for: the model is the session's, and has our name here."""
        session = event.session
        assert session is not None
        if session.type != "realtime":
            raise CallerError(
                "A session that only transcribes is not served here. Send the audio to POST "
                "/v1/audio/transcriptions.",
                param="session.type",
                code="invalid_value",
            )
        if session.transcriber:
            self._find_scribe(session.transcriber)  # which refuses what nobody here has
        if session.model is None:
            return message
        if session.model != self._call.model:
            raise CallerError(
                f"The model of this session is `{self._call.model}` and cannot be changed. Open another one.",
                param="session.model",
                code="invalid_value",
            )
        upstream = self._target.model.name
        return message if upstream == session.model else renamed(message, upstream)

    @property
    def _most(self) -> int:
        """Return the most output tokens of the next response."""
        return max(self._limit, self._asked)

    # ── from the provider ───────────────────────────────────────────────────────────────────────

    async def _hear_provider(self) -> None:
        client, provider, clock = self._client, self._provider, self._till.clock
        while (message := await provider.receive()) is not None:
            self._heard = clock.monotonic()
            event = read_server(message)
            if given(event.delta):
                self._hear_delta(event)
                client.send(message)
            elif event.session is not None:
                client.send(self._hear_settings(event, message))
                await self._prepare()
            else:
                again = await self._hear_event(event)
                client.send(message)
                if again:
                    await self._prepare()
            await client.drained()
        if provider.ending[0] == LOST:
            raise UpstreamInterrupted("The provider broke the session off.")

    def _hear_delta(self, event: ServerEvent) -> None:
        """Count what is made."""
        turn = self._turns.get(event.response_id or "")
        if turn is None:
            return
        size = given(event.delta)
        if event.type in {"response.output_audio.delta", "response.audio.delta"}:
            turn.audio += size // OUTPUT_AUDIO_CHARS
        elif "transcript" not in event.type:  # which is written from the audio, and not billed
            turn.text += -(-size // _BYTES_PER_TOKEN)
        if not turn.within():
            raise QuotaExceeded("The response was cut: it ran past the tokens that were reserved for it.")

    def _hear_settings(self, event: ServerEvent, message: bytes) -> bytes:
        """Take in the settings in force; the model has the name that the caller knows."""
        session = event.session
        assert session is not None
        self._context.tell(len(message) if event.type == "session.created" else 0)
        limit = session.max_output_tokens
        self._limit = limit if isinstance(limit, int) else self._till.limit()
        if session.transcriber and (self._scribe is None or self._scribe.model != session.transcriber):
            if self._scribe is not None:
                self._scribe.release()
            self._scribe = self._find_scribe(session.transcriber)
        if session.model is not None and self._target.model.name != self._call.model:
            return renamed(message, self._call.model)
        return message

    async def _prepare(self) -> None:
        """Hold what may come next and has not begun."""
        if not self._turns:
            await self._till.secure(self._context.bound, self._most)
        if self._scribe is not None:
            await self._scribe.secure(*_TRANSCRIPT)

    async def _hear_event(self, event: ServerEvent) -> bool:
        """Follow an event; say whether money must be held again when it has been told."""
        kind, response = event.type, event.response
        if kind == "response.created" and response is not None:
            await self._begin(response)
        elif kind == "response.done" and response is not None:
            self._end(response)
            return True
        elif kind == "input_audio_buffer.committed":
            self._context.commit()
        elif kind == "input_audio_buffer.cleared":
            self._context.clear()
        elif kind == "conversation.item.input_audio_transcription.completed":
            await self._transcribed(event)
            return True
        return False

    async def _begin(self, response: Response) -> None:
        """Open a response in the books. One that nobody asked for passes the limits now, or is called off."""
        context, till = self._context, self._till
        bound, most = context.bound, self._most
        context.begin(response.id)
        refusal = None
        if self._tickets:
            ticket = self._tickets.pop(0)
        else:
            try:
                ticket = await till.admit(bound, most)
            except Limited as error:
                refusal, ticket = error, till.uncounted()
        try:
            self._turns[response.id] = await till.begin(bound, most, ticket, context.rough)
        except BaseException:
            till.cancel(ticket)
            raise
        if refusal is not None:
            self._provider.send(b'{"type":"response.cancel","response_id":"%b"}' % response.id.encode())
            self._client.send(error_event(refusal, self._event_id()))

    def _end(self, response: Response) -> None:
        """Settle a response."""
        turn = self._turns.pop(response.id, None)
        if turn is None:
            return
        failed = response.status in {"failed", "cancelled"}
        believed = turn.settle(counted(response.usage), failed=failed)
        apart = response.conversation_id is None
        self._context.end(response.id, believed, spoken=turn.produced(), apart=apart)
        self._asked = 0

    async def _transcribed(self, event: ServerEvent) -> None:
        """Book a transcription, which another model made and bills."""
        if self._scribe is None or event.usage is None:
            return
        turn = await self._scribe.begin(*_TRANSCRIPT, self._scribe.uncounted(), 0)
        turn.settle(counted(event.usage))


_TRANSCRIPT = (16_000, 2_000)  # tokens: of one turn of speech, far above what is spoken without a pause


def _closing(error: GatewayError) -> int:
    """Return the code that a WebSocket closes with."""
    if isinstance(error, (CallerError, Limited)):
        return REFUSED
    return GOING_AWAY if isinstance(error, Unavailable) else FAULT
