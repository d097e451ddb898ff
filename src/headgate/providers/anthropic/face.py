"""`POST /v1/messages`, a face of the one pipeline: who speaks Anthropic's API reaches any model."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from headgate.errors import CallerError, QuotaExceeded
from headgate.providers.anthropic.errors import STATUSES
from headgate.providers.anthropic.faithful import FaithfulReader
from headgate.providers.anthropic.inbound import to_chat
from headgate.providers.anthropic.outbound import MessagesReader, sse
from headgate.values import Note

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.errors import GatewayError
    from headgate.ports import Reader
    from headgate.values import Call, Target

_encode = msgspec.json.encode
_TYPES = {status: kind for kind, status in STATUSES.items()} | {
    503: "overloaded_error",
    422: "invalid_request_error",
}
_LIMIT = re.compile(rb"x-ratelimit-(limit|remaining|reset)-(requests|tokens): ([^\r]*)\r\n")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_THEIRS = frozenset({"anthropic", "vertex-claude"})  # hosts that take a message as it came
_WORD = re.compile(r"[!-~]{1,200}")


class MessagesFace:
    """One call that was asked as messages. Implements `ports.Face`.

    Args:
        header: returns a request header by its lower-case name.
    """

    __slots__ = ("_dropped", "betas", "given", "hidden_bytes", "version")
    keep_alive: ClassVar = sse("ping")

    def __init__(self, header: Callable[[bytes], bytes | None]) -> None:
        self.version = _word(header(b"anthropic-version"))
        self.betas = _word(header(b"anthropic-beta"))
        self.given: dict[str, Any] = {}  # the members of the body
        self.hidden_bytes = 0
        self._dropped: list[str] = []

    def read(self, body: bytes, target_of: Callable[[str], Target | None]) -> bytes:
        """Return the body of the same call as chat.

        Args:
            body: valid UTF-8 of bounded depth.
            target_of: returns the first target of a model, for what may be asked of it.

        Raises:
            CallerError: what is wrong with it, or cannot be asked here.
        """
        return self._as_chat(_object(body), target_of)

    def _as_chat(self, given: dict[str, Any], target_of: Callable[[str], Target | None]) -> bytes:
        asked = to_chat(given)
        self.given, self.hidden_bytes, self._dropped = given, asked.hidden_bytes, asked.dropped
        model = given["model"]
        target = target_of(model) if isinstance(model, str) else None
        if target is not None:
            self._fit(asked.body, target)
        return _encode(asked.body)

    def _fit(self, body: dict[str, Any], target: Target) -> None:
        """Ask no more of a model than it takes: agents ask all models for what the one they know can."""
        config = self.given.get("output_config")
        effort = config.get("effort") if isinstance(config, dict) else None
        if effort is not None:
            if target.model.wants_max_completion_tokens:  # it reasons
                body["reasoning_effort"] = effort
            else:
                self._dropped.append("output_config.effort")
        most, asked = target.model.max_output, body["max_tokens"]
        if most and type(asked) is int and asked > most and target.host.kind not in _THEIRS:
            body["max_tokens"] = most
            self._dropped.append(f"max_tokens>{most}")

    def weigh(self, call: Call) -> None:
        """Note on a call what its chat form does not show: more input, and the speed that has a price."""
        call.input_bytes += self.hidden_bytes
        if self.given.get("speed") == "fast":
            call.tier = "speed=fast"

    def reader(self, inner: Reader, call: Call) -> Reader:
        """Return a reader that shows an answer as a message."""
        if isinstance(inner, FaithfulReader):
            return inner
        dropped = [*self._dropped, *(["speed"] if self.given.get("speed") == "fast" else [])]
        call.notes += [Note("x-headgate-dropped", name) for name in dropped]
        return MessagesReader(inner, call)

    def limits(self, call: Call, lines: bytes) -> bytes:
        """Return what is left of limits as Anthropic's headers, from OpenAI's; the reset is an instant."""
        began = datetime.fromtimestamp(int.from_bytes(call.id[:6]) / 1000, UTC)
        rows = []
        for what, unit, given in _LIMIT.findall(lines):
            value = given
            if what == b"reset":
                wait = sum(float(n) * _SECONDS[kind] for n, kind in _DURATION.findall(given.decode()))
                value = f"{began + timedelta(seconds=wait):%Y-%m-%dT%H:%M:%SZ}".encode()
            rows.append(b"anthropic-ratelimit-%b-%b: %b\r\n" % (unit, what, value))
        return b"".join(rows)

    def error(self, error: GatewayError, request_id: str) -> bytes:
        """Return the body of an error."""
        return _encode(_error(error, request_id))

    def event(self, error: GatewayError, request_id: str) -> bytes:
        """Return the event that ends a stream which has begun."""
        body = _error(error, request_id)
        return sse("error", error=body["error"], request_id=request_id)


class CountFace(MessagesFace):
    """A question for the length of an input: it has no limit of the output."""

    __slots__ = ()

    def read(self, body: bytes, target_of: Callable[[str], Target | None]) -> bytes:
        """Return the body of the same call as chat."""
        return self._as_chat({"max_tokens": 1, **_object(body)}, target_of)


def _error(error: GatewayError, request_id: str) -> dict[str, Any]:
    kind = "billing_error" if isinstance(error, QuotaExceeded) else _TYPES.get(error.http_status)
    if kind is None:
        kind = "invalid_request_error" if error.http_status < 500 else "api_error"
    detail: Mapping[str, Any] = {"type": kind, "message": error.message}
    return {"type": "error", "error": detail, "request_id": request_id}


def _object(body: bytes) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise CallerError(f"The request body is not valid JSON: {fault}") from fault
    if not isinstance(given, dict):
        raise CallerError("The request body is not valid JSON: it must be an object")
    return given


def _word(value: bytes | None) -> str:
    """Return a header's value as it may go out again; empty where it is none."""
    text = (value or b"").decode("latin-1").replace(" ", "")
    return text if _WORD.fullmatch(text) else ""
