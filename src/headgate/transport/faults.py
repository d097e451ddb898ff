"""What may go wrong on the way to a provider, as errors of ours. Messages name host and port, no secret."""

from __future__ import annotations

import os
import socket
from typing import ClassVar

from headgate.errors import UpstreamInterrupted


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


def unreachable(label: str, error: BaseException) -> UpstreamInterrupted:
    """Return what a failure to connect to `label` (host:port) means, without the library's own text."""
    return UpstreamInterrupted(f"Could not connect to {label}: {describe(error)}.")


def describe(error: BaseException) -> str:
    """Return a foreign error in a few words that hold no address, path or credential."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        why = getattr(error, "verify_message", None) or "verification failed"
        return f"its certificate was not accepted ({why})"
    if isinstance(error, ssl.SSLError):
        why = getattr(error, "reason", None) or "protocol error"
        return f"TLS failed ({why.lower().replace('_', ' ')})"
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
