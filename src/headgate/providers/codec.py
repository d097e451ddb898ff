"""The seam of a provider's wire: three methods and no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

from headgate.errors import NotFound

if TYPE_CHECKING:
    from headgate.errors import UpstreamError
    from headgate.ports import Head, Reader, Request
    from headgate.values import Call, Target


class Codec(Protocol):
    """Speak one operation of one wire."""

    def encode(self, call: Call, target: Target) -> Request:
        """Return the provider's request for a call; adds to `call.notes` what it had to change.

        Raises:
            CallerError: the target cannot do what the request asks for.
        """
        ...

    def reader(self, call: Call, target: Target) -> Reader:
        """Return a reader for the answer of one attempt."""
        ...

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer (status 400 and above) means for the caller."""
        ...


class Absent:
    """The codec of an operation that a wire does not have. Implements `Codec`."""

    __slots__ = ()

    def encode(self, call: Call, _target: Target) -> NoReturn:
        """Refuse the call.

        Raises:
            NotFound: always.
        """
        raise NotFound(f"This model does not support {call.operation}.", param="model")

    def reader(self, call: Call, _target: Target) -> NoReturn:
        """Refuse: nothing was sent."""
        raise NotImplementedError(call.operation)

    def error(self, head: Head, _body: bytes) -> NoReturn:
        """Refuse: nothing was sent."""
        raise NotImplementedError(head.status)
