"""How the faults of transport and body change an answer that would have been good."""

from __future__ import annotations

import math
from itertools import chain, islice
from typing import TYPE_CHECKING

import msgspec

from headgate.errors import UpstreamInterrupted
from headgate.transport.simulator.reply import DONE, JSON_TYPE, Reply, Step, error_body, json_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from headgate.transport.simulator.faults import Fault
    from headgate.transport.simulator.wishes import Wish

_PAGE = (
    b"<html>\r\n<head><title>%b</title></head>\r\n"
    b"<body>\r\n<center><h1>%b</h1></center>\r\n</body>\r\n</html>\r\n"
)
_LATE = error_body("The server had an error while processing your request.", "server_error", "server_error")
_LIMITED = error_body("Rate limit reached for simulator.", "requests", "rate_limit_exceeded")


def refuse(fault: Fault) -> Reply:
    """Return the refusing answer of a fault that has a status."""
    headers = tuple((name.encode(), value.encode()) for name, value in fault.headers)
    if fault.html:
        title = str(fault.status).encode()
        return Reply(fault.status, headers, iter((_PAGE % (title, title),)))
    return json_reply(error_body(fault.message, fault.type, fault.code), fault.status, headers)


def broken(reply: Reply, wish: Wish) -> Reply:
    """Return the answer as the wished fault leaves it."""
    change = _CHANGES.get(wish.fault.name) if wish.fault is not None else None
    if change is None:
        return reply
    parts = [part for part in reply.parts if isinstance(part, bytes)]
    return change(reply, parts, wish)


def _unlabelled(reply: Reply) -> Reply:
    """Return the reply without its length, which does not hold any more."""
    headers = tuple(row for row in reply.headers if row[0] != b"content-length")
    return Reply(reply.status, headers, reply.parts, reply.streamed, reply.whole_frames)


def _half(reply: Reply, parts: list[bytes]) -> list[bytes]:
    """Return the first half: of the events of a stream, of the bytes of a body."""
    if reply.streamed:
        return parts[: max(1, len(parts) // 2)]
    body = b"".join(parts)
    return [body[: len(body) // 2]]


def _cut(reply: Reply, parts: list[bytes], _: Wish) -> Reply:
    lost = UpstreamInterrupted("The simulator broke the connection half-way, as it was asked to (fault cut).")
    return reply.with_parts(iter((*_half(reply, parts), lost)))


def _reset_body(reply: Reply, _: list[bytes], __: Wish) -> Reply:
    lost = UpstreamInterrupted(
        "The simulator broke the connection after the head, as it was asked to (fault reset-body)."
    )
    return reply.with_parts(iter((lost,)))


def _stall(reply: Reply, parts: list[bytes], _: Wish) -> Reply:
    return reply.with_parts(iter((*_half(reply, parts), math.inf)))


def _early_end(reply: Reply, parts: list[bytes], _: Wish) -> Reply:
    return _unlabelled(reply).with_parts(iter(_half(reply, parts)))


def _no_done(reply: Reply, parts: list[bytes], _: Wish) -> Reply:
    return reply.with_parts(part for part in parts if part != DONE)


def _done_twice(reply: Reply, parts: list[bytes], _: Wish) -> Reply:
    more = (parts[0], DONE) if reply.streamed else ()
    return reply.with_parts(iter((*parts, *more)))


def _drip(reply: Reply, parts: list[bytes], wish: Wish) -> Reply:
    pause_s = wish.amount / 1000
    drops = ((pause_s, drop) for drop in _slices(b"".join(parts), (8,)))
    return reply.with_parts(chain.from_iterable(drops))


def _split(reply: Reply, parts: list[bytes], _: Wish) -> Reply:
    pieces = _slices(b"".join(parts), (1, 2, 3, 5, 7, 11, 64))
    return Reply(reply.status, reply.headers, iter(pieces), reply.streamed, whole_frames=False)


def _slices(body: bytes, lengths: tuple[int, ...]) -> Iterator[bytes]:
    at = number = 0
    while at < len(body):
        length = lengths[number % len(lengths)]
        yield body[at : at + length]
        at += length
        number += 1


def _crlf(reply: Reply, parts: list[bytes], _: Wish) -> Reply:
    if not reply.streamed:
        return reply.with_parts(iter(parts))
    return reply.with_parts(b": keep-alive\r\n\r\n" + part.replace(b"\n", b"\r\n") for part in parts)


def _garbage(reply: Reply, parts: list[bytes], _: Wish) -> Reply:
    broken_bytes = b'data: {"id":"chatcmpl-\x00,"choices":[{\n\n' if reply.streamed else b'"choices":[{]'
    return _unlabelled(reply).with_parts(iter((*_half(reply, parts), broken_bytes)))


def _html(reply: Reply, _: list[bytes], __: Wish) -> Reply:
    title = b"Welcome"
    return Reply(200, ((b"content-type", b"text/html"),), iter((_PAGE % (title, title),)), reply.streamed)


def _empty_body(reply: Reply, _: list[bytes], __: Wish) -> Reply:
    return _unlabelled(reply).with_parts(iter(()))


def _error_first(reply: Reply, _: list[bytes], __: Wish) -> Reply:
    if not reply.streamed:
        return Reply(200, JSON_TYPE, iter((msgspec.json.encode(_LIMITED),)))
    return reply.with_parts(iter((_event(_LIMITED),)))


def _error_late(reply: Reply, parts: list[bytes], wish: Wish) -> Reply:
    if not reply.streamed:
        return _error_first(reply, parts, wish)
    return reply.with_parts(iter((*_half(reply, parts), _event(_LATE))))


def _usage_falling(reply: Reply, parts: list[bytes], _: Wish) -> Reply:
    counted: Iterable[Step] = (
        part.replace(
            b'"usage":null',
            b'"usage":{"prompt_tokens":9,"completion_tokens":%d,"total_tokens":%d}' % (at, at + 9),
        )
        for part, at in zip(parts, range(len(parts) + 1, 1, -1), strict=True)
    )
    return reply.with_parts(iter(islice(counted, len(parts))))


def _event(value: object) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


_CHANGES: Mapping[str, Callable[[Reply, list[bytes], Wish], Reply]] = {
    "cut": _cut,
    "reset-body": _reset_body,
    "stall": _stall,
    "early-end": _early_end,
    "no-done": _no_done,
    "done-twice": _done_twice,
    "drip": _drip,
    "split": _split,
    "crlf": _crlf,
    "garbage": _garbage,
    "html": _html,
    "empty-body": _empty_body,
    "error-first": _error_first,
    "error-late": _error_late,
    "usage-falling": _usage_falling,
}
