"""What may go wrong on the way to a provider, as errors of ours.

Messages are for callers: they name the provider as the settings do. Host and port stand beside, in `place`,
for the log alone, since they may be those of a network that is nothing for callers. No secret is in either.
"""

from __future__ import annotations

import os
import socket
from typing import ClassVar

from headgate.errors import UpstreamInterrupted, UpstreamTimeout


class StaleConnection(UpstreamInterrupted):
    """The provider closed a kept-alive connection before it saw the request: one fresh try is safe."""

    not_processed: ClassVar[bool] = True


class Redirected(UpstreamInterrupted):
    """The provider answered with a redirect, which is not followed where a call is made."""

    same_target = False

    def __init__(self, message: str, location: str) -> None:
        super().__init__(message)
        self.location = location  # as it came


class Malformed(Exception):
    """The bytes are not a well-formed answer. The text is short and quotes none of them."""


class Forbidden(OSError):
    """An address is one that is never connected to. The text says why, without it."""


class Unreached(Exception):
    """A connection did not come about.

    Args:
        why: in a few words that hold no address.
        place: host and port, with those of a proxy.
        through: a proxy that it was tried through, in words; empty: none.
    """

    def __init__(self, why: str, place: str, through: str = "") -> None:
        super().__init__(why)
        self.why, self.place, self.through = why, place, through

    def told(self, name: str) -> UpstreamInterrupted:
        """Return what it means for a call to the provider of that name."""
        message = f"Could not connect to provider {name!r}{self.through}: {self.why}."
        return UpstreamInterrupted(message).at(self.place)


def not_in_time(name: str, limit_s: float, place: str) -> UpstreamTimeout:
    """Return that a connection to a provider took longer than it may."""
    message = f"Could not connect to provider {name!r} within {limit_s:g} s (connect_s)."
    return UpstreamTimeout(message).at(place)


def describe(error: BaseException) -> str:
    """Return a foreign error in a few words that hold no address, path or credential."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        why = getattr(error, "verify_message", None) or "verification failed"
        why = why.partition(", certificate is not valid for")[0]  # behind that stands a host, or an address
        return f"its certificate was not accepted ({why})"
    if isinstance(error, ssl.SSLError):
        why = getattr(error, "reason", None) or "protocol error"
        return f"TLS failed ({why.lower().replace('_', ' ')})"
    if isinstance(error, Forbidden):
        return str(error)
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if isinstance(number, int) else "the connection failed"


_WORDS: tuple[tuple[type[OSError], str], ...] = (
    (socket.gaierror, "the name does not resolve"),
    (ConnectionRefusedError, "the connection was refused"),
    (ConnectionError, "the connection was reset"),
    (TimeoutError, "it did not answer"),
)
