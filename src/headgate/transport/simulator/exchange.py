"""The simulator as a transport: an upstream in this process, with the manners of one on the network."""

from __future__ import annotations

import asyncio
import math
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from headgate.errors import CallerGone, UpstreamError, UpstreamInterrupted, UpstreamTimeout
from headgate.ports import Declined, Head
from headgate.transport.simulator.breakage import broken, refuse
from headgate.transport.simulator.counting import ModelTokens
from headgate.transport.simulator.reply import Reply, Stamp, error_reply
from headgate.transport.simulator.wishes import UnknownWish, fault_of_model, read_wish
from headgate.waits import own_task
from headgate.wire.forms import is_form, parts_of
from headgate.wire.uploads import FILES, fields_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from headgate.channels import Channel
    from headgate.money.tokens import Tokenizers
    from headgate.ports import Clock, Request
    from headgate.transport.simulator.reply import Step
    from headgate.transport.simulator.wishes import Wish
    from headgate.values import Deadlines, Target

    Answering = Callable[[dict[str, Any], Wish, ModelTokens, Stamp], Awaitable[Reply]]

_T = TypeVar("_T")
_READ_BYTES = 16 * 1024  # as much as one read returns where nothing paces the answer
_REFUSED = "invalid_request_error"


class Simulator:
    """A provider that needs no account: see `ports.Transport`.

    Args:
        clock: for `created`.
        tokenizers: shared with whoever else counts; the vocabulary is loaded by the first call.
        chunk_ms: milliseconds between the tokens of a stream where the request does not say.
    """

    __slots__ = ("_chunk_ms", "_clock", "_tokenizers")

    def __init__(self, clock: Clock, tokenizers: Tokenizers, *, chunk_ms: int = 0) -> None:
        self._clock = clock
        self._tokenizers = tokenizers
        self._chunk_ms = chunk_ms

    async def acquire(self, target: Target) -> SimulatedExchange:
        """Return an exchange; connections fail only where the model's name asks for it."""
        asked = fault_of_model(target.model.name)
        if asked is not None and asked[0].name == "refused":
            raise UpstreamInterrupted(
                "The simulator refused the connection, as it was asked to (fault refused)."
            )
        if asked is not None and asked[0].name == "unreachable":
            await asyncio.sleep(target.deadlines.connect_s)
            raise UpstreamTimeout(
                f"The simulator was not reached within {target.deadlines.connect_s:g} s (connect_s)."
            )
        await own_task()
        return SimulatedExchange(self, target)

    async def converse(self, target: Target, request: Request) -> Channel | Declined:
        """Open a session of the Realtime API, or refuse it as the model's name or a header asks."""
        from headgate.transport.simulator.realtime import RealtimePeer, refused

        await own_task()
        try:
            wish = read_wish(request, target.model.name, self._chunk_ms)
        except UnknownWish as error:
            said = f"The simulator cannot do this: {error}."
            return Declined(*refused(error_reply(400, said, _REFUSED, "invalid_value")))
        if wish.fault is not None and wish.fault.status:
            return Declined(*refused(refuse(wish.fault)))
        if wish.fault is not None and wish.fault.name in {"refused", "reset"}:
            raise UpstreamInterrupted(
                f"The simulator closed the connection, as it was asked to (fault {wish.fault.name})."
            )
        created = self._clock.wall() // 1_000_000
        return RealtimePeer(self.answer, target, request, created, wish.chunk_ms)

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    async def answer(self, request: Request, target: Target) -> Reply:
        """Return the reply to a request, after the delay that it asks for.

        Raises:
            UpstreamInterrupted: the connection breaks before the answer, as asked.
        """
        if "/videos" in request.path:
            return self._film(request, target)
        answering = _answering(request.path)
        if answering is None:
            return error_reply(404, f"Invalid URL ({request.method} {request.path})", _REFUSED, None)
        try:
            members = _members(request)
            wish = read_wish(request, str(members.get("model")), self._chunk_ms)
            return await self._wished(answering, members, wish, request, target)
        except UnknownWish as error:
            return error_reply(400, f"The simulator cannot do this: {error}.", _REFUSED, "invalid_value")
        except (msgspec.DecodeError, ValueError) as error:
            return error_reply(400, f"The simulator cannot answer this: {error}.", _REFUSED, "invalid_value")

    def _film(self, request: Request, target: Target) -> Reply:
        """Answer what is asked of a video."""
        from headgate.transport.simulator.videos import asked, members_of, ordered

        now_ms = self._clock.wall() // 1_000
        if request.method != "POST":
            return asked(request.path, target.model.name, now_ms)
        try:
            wish = read_wish(request, target.model.name, self._chunk_ms)
            if wish.fault is not None and wish.fault.status:
                return refuse(wish.fault)
            return ordered(members_of(request.body), request, wish, now_ms)
        except (UnknownWish, msgspec.DecodeError) as error:
            return error_reply(400, f"The simulator cannot do this: {error}.", _REFUSED, "invalid_value")

    async def _wished(
        self, answering: Answering, members: dict[str, Any], wish: Wish, request: Request, target: Target
    ) -> Reply:
        name = wish.fault.name if wish.fault is not None else ""
        if name in {"refused", "reset"}:
            raise UpstreamInterrupted(
                f"The simulator closed the connection, as it was asked to (fault {name})."
            )
        if name in {"hang", "unreachable"}:
            await asyncio.get_running_loop().create_future()
        delay_ms = wish.delay_ms + (wish.amount if name == "slow" else 0)
        if delay_ms:
            await asyncio.sleep(delay_ms / 1000)
        if wish.fault is not None and wish.fault.status:
            return refuse(wish.fault)
        seed = b"%b\n%b\n%b" % (request.request_id.encode(), request.path.encode(), request.whole())
        stamp = Stamp(seed, self._clock.wall() // 1_000_000, str(members.get("model")))
        reply = broken(
            await answering(members, wish, ModelTokens(self._tokenizers, target.model), stamp), wish
        )
        return reply.paced(wish.chunk_ms / 1000)


class SimulatedExchange:
    """One request and its answer; see `ports.Exchange`.

    There is no task behind it: whoever waits does the work, and `abort` cancels that wait alone.
    """

    __slots__ = (
        "_aborted", "_deadlines", "_error", "_held", "_parts", "_reply", "_request", "_sent_at", "_simulator",
        "_target", "_waiter", "reused", "sent",
    )  # fmt: skip

    def __init__(self, simulator: Simulator, target: Target) -> None:
        self.reused = False
        self.sent = False
        self._simulator = simulator
        self._target = target
        self._deadlines: Deadlines = target.deadlines
        self._request: Request | None = None
        self._sent_at = 0.0
        self._reply: Reply | None = None
        self._parts: Iterator[Step] = iter(())
        self._held: Step | None = None  # a step that was met behind bytes
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Task[Any] | None = None
        self._aborted = False

    def send(self, request: Request) -> None:
        """Take the request."""
        if not self.sent:
            self.sent = True
            self._request = request
            self._sent_at = asyncio.get_running_loop().time()

    async def head(self) -> Head:
        """Wait for the head of the answer."""
        if self._reply is None:
            limit_s = self._deadlines.first_byte_s
            self._reply = await self._wait(
                self._begin, limit_s, f"did not answer within {limit_s:g} s (first_byte_s)"
            )
            self._parts = self._reply.parts
        return Head(self._reply.status, self._reply.headers)

    async def read(self) -> bytes:
        """Wait for more of the body; b"" at its end."""
        limit_s = self._deadlines.between_frames_s
        return await self._wait(self._next, limit_s, f"sent nothing for {limit_s:g} s (between_frames_s)")

    def whole(self) -> None:
        """Have nothing at once: an answer is made while it is read."""

    def abort(self) -> None:
        """End the exchange; a pending wait raises `CallerGone`."""
        if self._aborted:
            return
        self._aborted = True
        self._parts = iter(())
        if self._waiter is not None:
            self._waiter.cancel()

    def release(self) -> None:
        """Let go of the answer."""
        self._parts = iter(())
        self._held = None

    async def _begin(self) -> Reply:
        request = self._request
        if request is None:
            raise UpstreamInterrupted("The simulator was asked for an answer before it had a request.")
        return await self._simulator.answer(request, self._target)

    async def _next(self) -> bytes:
        reply = self._reply
        if reply is not None and reply.streamed:
            await asyncio.sleep(0)  # a long unpaced stream leaves the loop to others in between
        most = _READ_BYTES if reply is not None and reply.whole_frames else 1
        taken: list[bytes] = []
        size = 0
        while size < most:
            step = self._held if self._held is not None else next(self._parts, None)
            self._held = None
            if isinstance(step, bytes):
                taken.append(step)
                size += len(step)
            elif step is None:
                break
            elif taken:
                self._held = step
                break
            else:
                await _pass(step)
        return b"".join(taken)

    async def _wait(self, work: Callable[[], Awaitable[_T]], limit_s: float, silence: str) -> _T:
        """Do a piece of work within its deadline and until `abort`."""
        if self._aborted:
            raise CallerGone
        if self._error is not None:
            raise self._error
        total_s = self._deadlines.total_s
        left_s = self._sent_at + total_s - asyncio.get_running_loop().time() if self.sent else total_s
        self._waiter = waiter = asyncio.current_task()
        assert waiter is not None
        others = waiter.cancelling()
        try:
            async with asyncio.timeout(max(0.0, min(limit_s, left_s))):
                return await work()
        except TimeoutError:
            silence = silence if limit_s <= left_s else f"had not finished after {total_s:g} s (total_s)"
            self._error = UpstreamTimeout(f"The simulator {silence}.")
            raise self._error from None
        except asyncio.CancelledError:
            if self._aborted and waiter.uncancel() <= others:
                raise CallerGone from None
            raise
        except UpstreamError as error:
            self._error = error
            raise
        finally:
            self._waiter = None


_PACKAGE = "headgate.transport.simulator"
_ANSWERING = {
    "/chat/completions": ("chat", "chat_reply"),
    "/completions": ("completions", "completion_reply"),
    "/embeddings": ("embeddings", "embeddings_reply"),
    "/moderations": ("moderations", "moderations_reply"),
    "/images/generations": ("images", "images_reply"),
    "/audio/speech": ("speech", "speech_reply"),
    "/images/edits": ("images", "images_reply"),
    "/images/variations": ("images", "images_reply"),
    "/audio/transcriptions": ("transcripts", "transcript_reply"),
    "/audio/translations": ("transcripts", "transcript_reply"),
}


def _answering(path: str) -> Answering | None:
    """Return who answers a path; None for one that is not served.

    Imported by the first call: their many patterns take 60 ms to compile, for nothing where real
    providers are configured.
    """
    found = next((where for end, where in _ANSWERING.items() if path.endswith(end)), None)
    if found is None:
        return None
    answering: Answering = getattr(import_module(f"{_PACKAGE}.{found[0]}"), found[1])
    return answering


def _members(request: Request) -> dict[str, Any]:
    """Return the members of a body; of a form its fields, and its files under `FILES`."""
    kind = next((value for name, value in request.headers if name == "content-type"), "").encode()
    if not is_form(kind):
        return msgspec.json.decode(request.body, type=dict[str, Any])
    parts = parts_of(kind, request.whole())
    members: dict[str, Any] = msgspec.json.decode(fields_of(parts))
    members[FILES] = [part for part in parts if part.filename]
    return members


async def _pass(step: float | UpstreamError) -> None:
    """Let a pause pass, or break the answer off."""
    if isinstance(step, UpstreamError):
        raise step
    if math.isinf(step):
        await asyncio.get_running_loop().create_future()
    await asyncio.sleep(step)
