"""The seam of a provider's wire: three methods and no I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn, Protocol

from headgate.errors import NotFound
from headgate.providers.refusals import no_credential

if TYPE_CHECKING:
    from headgate.errors import GatewayError
    from headgate.ports import Head, Reader, Request
    from headgate.values import Call, Pairs, Target

_IN_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*", re.ASCII)


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

    def error(self, head: Head, body: bytes) -> GatewayError:
        """Return what a refusing answer (status 400 and above) means for the caller."""
        ...


def name_in_path(target: Target) -> str:
    """Return the name of a target's model where it becomes part of a path: names come from callers.

    Raises:
        NotFound: it holds what no name does, and what would lead elsewhere.
    """
    name = target.model.name
    if _IN_PATH.fullmatch(name) is None:
        raise NotFound(
            f"The model `{name[:100]}` does not exist or you do not have access to it.",
            code="model_not_found",
        )
    return name


def headers_of(target: Target) -> Pairs:
    """Return the headers of a request, with the host's token where it is asked with one.

    Raises:
        UpstreamError: there is no token yet, or none to be had.
    """
    bearer = target.host.bearer
    if bearer is None:
        return target.headers
    if not bearer.token:
        raise no_credential(bearer.trouble)
    return bearer.headers(target.headers)


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
