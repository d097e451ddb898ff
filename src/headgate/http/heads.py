"""Response heads as bytes, from parts made beforehand."""

from __future__ import annotations

from http import HTTPStatus
from time import gmtime
from typing import TYPE_CHECKING

from headgate.wire.headers import lines_of

if TYPE_CHECKING:
    from headgate.ports import Headers
    from headgate.values import WallMicros

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Heads(dict[int, bytes]):
    """The first lines of heads, by their status: made once per second, for their date."""

    __slots__ = ("_date", "_second")

    def __init__(self) -> None:
        super().__init__()
        self._second = -1
        self._date = b""

    def set_time(self, wall: WallMicros) -> None:
        """Take the time that the next heads carry."""
        second = wall // 1_000_000
        if second != self._second:
            self._second = second
            self._date = http_date(second)
            self.clear()

    def make(self, status: int, headers: Headers, last: bytes) -> bytes:
        """Return a head; `last` are the lines on framing and connection with the empty line."""
        return self[status] + (headers if isinstance(headers, bytes) else lines_of(headers)) + last

    def __missing__(self, status: int) -> bytes:
        """Make those of a status, and keep them for this second."""
        reason = _REASONS.get(status, b"")
        first = b"HTTP/1.1 %d %b\r\nserver: headgate\r\ndate: %b\r\n" % (status, reason, self._date)
        self[status] = first
        return first


def http_date(second: int) -> bytes:
    """Return a time in seconds UTC as HTTP writes it (RFC 9110, 5.6.7)."""
    at = gmtime(second)
    return (
        f"{_DAYS[at.tm_wday]}, {at.tm_mday:02d} {_MONTHS[at.tm_mon - 1]} {at.tm_year} "
        f"{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} GMT"
    ).encode()
