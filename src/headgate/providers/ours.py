"""Another gateway of this make as a provider: its wire is OpenAI's, and it is told how long the caller waits.

What is passed on is what is left: of a deadline for the whole answer by our own header, of one for its first
byte by that of the SDKs, which is in seconds. The other gateway answers a little before, as this one does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.errors import DeadlinePassed
from headgate.providers.refusals import detail_of

if TYPE_CHECKING:
    from headgate.errors import GatewayError
    from headgate.ports import Clock, Head, Reader, Request
    from headgate.providers.codec import Codec
    from headgate.values import Call, Target

_MS: Final = 1_000_000
WHOLE: Final = "x-headgate-deadline-ms"
FIRST_BYTE: Final = "x-stainless-read-timeout"


class PassingOn:
    """Speak an operation as a codec does, and pass a caller's deadline on. Implements `Codec`."""

    __slots__ = ("_clock", "_codec")

    def __init__(self, codec: Codec, clock: Clock) -> None:
        self._codec = codec
        self._clock = clock

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request, with what is left of the caller's time.

        Raises:
            CallerError: the target cannot do what the request asks for.
        """
        request = self._codec.encode(call, target)
        deadline = call.deadline
        if deadline is None:
            return request
        left_ms = max(1, (deadline.at_ns - self._clock.monotonic()) // _MS)
        line = (WHOLE, str(left_ms)) if deadline.whole else (FIRST_BYTE, f"{left_ms / 1000:.3f}")
        return msgspec.structs.replace(request, headers=(*request.headers, line))

    def reader(self, call: Call, target: Target) -> Reader:
        """Return a reader for the answer of one attempt."""
        return self._codec.reader(call, target)

    def error(self, head: Head, body: bytes) -> GatewayError:
        """Return what a refusing answer means for the caller, whose time may have passed over there."""
        if head.status == 408 and detail_of(body).code == DeadlinePassed.default_code:
            return DeadlinePassed(
                "The answer was not there in the time that the request gives it. What was used until then is "
                "paid. Give it more time, or ask for less."
            )
        return self._codec.error(head, body)
