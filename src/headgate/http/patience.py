"""How long a caller waits for its answer, as the head of its request says.

Sources: openai-python sends its read timeout in seconds as `x-stainless-read-timeout` (600 where nobody set
one), openai-node its timeout in whole seconds as `x-stainless-timeout`; both stop waiting where no byte of an
answer has come by then. `x-headgate-deadline-ms` is our own, for the whole of an answer.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from headgate.errors import CallerError, DeadlinePassed
from headgate.waits import Deadline

if TYPE_CHECKING:
    from headgate.errors import GatewayError
    from headgate.http.incoming import RequestHead
    from headgate.ports import Sink
    from headgate.values import MonotonicNs

OWN: Final = b"x-headgate-deadline-ms"
_SDKS: Final = (b"x-stainless-read-timeout", b"x-stainless-timeout")
_USUAL_S: Final = 600.0  # of an SDK to which nobody has said anything
_MOST_MS: Final = 86_400_000
_MS: Final = 1_000_000
_NS: Final = 1_000_000_000
_EARLIER_NS: Final = 250 * _MS  # or a tenth: so that the answer is there in time
_WHOLE: Final = re.compile(rb"\d{1,8}")
_SECONDS: Final = re.compile(rb"\d{1,6}(?:\.\d{1,9})?")


class _Answering(Protocol):
    """A sink that tells whether the answer has begun."""

    @property
    def started(self) -> bool:
        """Say whether the answer has a head."""
        ...


class Patience(NamedTuple):
    """How long a caller waits."""

    ns: int
    whole: bool  # for the whole of an answer, not only for its first byte
    header: str  # that says so


def patience(head: RequestHead) -> Patience | None:
    """Return how long who sent a head waits; None where it does not say, or for as long as everybody.

    Raises:
        CallerError: it says it wrongly.
    """
    found = [each for name in _SDKS if (each := _of_sdk(head, name)) is not None]
    raw = head.header(OWN)
    if raw is not None:
        if not _WHOLE.fullmatch(raw) or not 1 <= int(raw) <= _MOST_MS:
            shown = raw[:40].decode("latin-1")
            raise CallerError(
                f"Invalid '{OWN.decode()}' header: expected whole milliseconds from 1 to {_MOST_MS}, "
                f"got {shown!r}.",
                code="invalid_value",
            )
        found.append(Patience(int(raw) * _MS, whole=True, header=OWN.decode()))
    return min(found, default=None)


def _of_sdk(head: RequestHead, name: bytes) -> Patience | None:
    raw = head.header(name)
    if raw is None or not _SECONDS.fullmatch(raw) or not 0 < float(raw) < _USUAL_S:
        return None
    return Patience(int(float(raw) * 1_000) * _MS, whole=False, header=name.decode())


def deadline(waits: Patience, received_ns: MonotonicNs, now: MonotonicNs, sink: Sink) -> Deadline:
    """Return when the answer to a request must be there: a little before its caller stops waiting.

    Args:
        waits: how long it waits.
        received_ns: when the request came.
        now: monotonic time.
        sink: of its answer.
    """
    at = received_ns + waits.ns - min(_EARLIER_NS, waits.ns // 10)
    return Deadline(at, max(0, at - now) / _NS, partial(_late, waits, cast("_Answering", sink)), waits.whole)


def _late(waits: Patience, sink: _Answering) -> GatewayError | None:
    if sink.started and not waits.whole:
        return None
    what = "complete" if waits.whole else "begun"
    late = DeadlinePassed(
        f"The answer was not {what} within the {waits.ns // _MS} ms that the request gives it "
        f"({waits.header}). What was used until then is paid. Give it more time, or ask for less."
    )
    if waits.whole:  # the time that the caller has is over; an SDK's own retry would be paid again
        late.retry = False
    return late
