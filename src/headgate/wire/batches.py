"""The wire of batches: what is asked for, the object that is shown, the lines that come in and go out. Pure.

Source: OpenAI's reference of `/v1/batches` and its batch guide. What is wrong with an input file is told in
the batch's `errors`, with the number of the line; its codes are those that OpenAI and Azure document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import msgspec

from headgate.errors import CallerError
from headgate.wire.answers import NOT_JSON
from headgate.wire.checks import (
    Check,
    Json,
    decode,
    integer,
    mapping,
    metadata,
    missing,
    one_of,
    required,
    text,
    unknown,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from headgate.errors import GatewayError
    from headgate.values import Usage

BatchStatus: TypeAlias = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
MOST_LINES: Final = 50_000
MOST_BYTES: Final = 200 * 1024 * 1024
MOST_INPUTS: Final = 50_000  # of all lines of embeddings together
LONGEST_ID: Final = 512  # characters of a custom_id
WINDOW: Final = "24h"
_US: Final = 1_000_000
_KEPT_S: Final = (3_600, 2_592_000)
_encode = msgspec.json.encode
_WHY: Final = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed because the batch was cancelled.",
    "batch_incomplete": "The provider ended the batch without an answer to this request.",
}


class BatchError(msgspec.Struct, frozen=True):
    """Something that is wrong with a batch."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None  # from 1


class BatchTimes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a batch came into each state, in microseconds; 0: it did not."""

    in_progress: int = 0
    finalizing: int = 0
    completed: int = 0
    failed: int = 0
    expired: int = 0
    cancelling: int = 0
    cancelled: int = 0


class BatchCounts(NamedTuple):
    """How many lines a batch has, and how they went."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchOrder(msgspec.Struct, frozen=True):
    """What is asked for."""

    input_file_id: str
    endpoint: str
    metadata: dict[str, str] | None = None
    kept_s: int = 0  # how long the files that come of it are kept; 0: as long as such files are


def _after(path: str, value: Json) -> None:
    """Accept how long the files that come of a batch are kept."""
    mapping(path, value)
    required(path, value, "anchor", one_of("created_at"))
    required(path, value, "seconds", integer(*_KEPT_S))
    for name in value:
        if name not in {"anchor", "seconds"}:
            raise unknown(f"{path}.{name[:100]}")


_ORDER: Mapping[str, Check] = {
    "input_file_id": text,
    "endpoint": text,
    "completion_window": text,
    "metadata": metadata,
    "output_expires_after": _after,
}


def read_order(body: bytes, endpoints: Collection[str]) -> BatchOrder:
    """Return what the body of `POST /v1/batches` asks for.

    Args:
        body: JSON.
        endpoints: that a batch may be for here.

    Raises:
        CallerError: what is wrong with it.
    """
    try:
        asked = decode(body)
    except NOT_JSON as fault:
        raise CallerError(f"We could not parse the JSON body of your request: {fault}.") from fault
    if not isinstance(asked, dict):
        raise CallerError("The JSON body of your request must be an object.", code="invalid_type")
    for name, check in _ORDER.items():
        if asked.get(name) is not None:
            check(name, asked[name])
    for name in ("input_file_id", "endpoint", "completion_window"):
        if not asked.get(name):
            raise missing(name)
    if asked["completion_window"] != WINDOW:
        raise _invalid("completion_window", asked["completion_window"], [WINDOW])
    if asked["endpoint"] not in endpoints:
        raise _invalid("endpoint", asked["endpoint"], endpoints)
    after = asked.get("output_expires_after")
    kept_s = int(after["seconds"]) if after is not None else 0
    return BatchOrder(asked["input_file_id"], asked["endpoint"], asked.get("metadata"), kept_s)


def _invalid(name: str, value: str, allowed: Collection[str]) -> CallerError:
    listed = ", ".join(f"'{each}'" for each in allowed)
    return CallerError(
        f"Invalid value: '{value[:100]}'. Supported values are: {listed}.", param=name, code="invalid_value"
    )


# ── lines that come in ───────────────────────────────────────────────────────────────────────────


class InputLine(NamedTuple):
    """One request of a batch."""

    custom_id: str
    body: bytes  # JSON


class _Line(msgspec.Struct):
    custom_id: msgspec.Raw = msgspec.Raw()
    method: msgspec.Raw = msgspec.Raw()
    url: msgspec.Raw = msgspec.Raw()
    body: msgspec.Raw = msgspec.Raw()


_line = msgspec.json.Decoder(_Line).decode
_text = msgspec.json.Decoder(str).decode


class LineRefused(Exception):
    """A line cannot be made a request of."""

    def __init__(self, error: BatchError) -> None:
        super().__init__(error.message)
        self.error = error


def read_line(data: bytes, number: int, endpoint: str) -> InputLine:
    """Return the request of one line.

    Args:
        data: the line, without its end.
        number: of it, from 1.
        endpoint: of the batch.

    Raises:
        LineRefused: what is wrong with it.
    """
    try:
        found = _line(data)
    except NOT_JSON as fault:
        raise _refused("invalid_json_line", _unparseable(data), number) from fault
    custom_id = _member(found.custom_id, "custom_id", number)
    if not custom_id or len(custom_id) > LONGEST_ID or "\0" in custom_id:
        raise _refused(
            "invalid_custom_id",
            f"Invalid 'custom_id': it must have 1 to {LONGEST_ID} characters, and none of them is NUL.",
            number,
            "custom_id",
        )
    method = _member(found.method, "method", number)
    if method != "POST":
        raise _refused(
            "invalid_method", f"Invalid method: '{method[:20]}'. Only 'POST' is supported.", number, "method"
        )
    url = _member(found.url, "url", number)
    if url != endpoint:
        raise _refused(
            "url_mismatch",
            f"The URL '{url[:100]}' of this request does not match the endpoint of the batch, '{endpoint}'.",
            number,
            "url",
        )
    body = bytes(found.body)
    if not body:
        raise _refused("missing_required_parameter", "Missing required parameter: 'body'.", number, "body")
    return InputLine(custom_id, body)


def _member(raw: msgspec.Raw, name: str, number: int) -> str:
    given = bytes(raw)
    if not given:
        raise _refused("missing_required_parameter", f"Missing required parameter: '{name}'.", number, name)
    try:
        return _text(given)
    except UnicodeDecodeError as fault:
        raise _refused("invalid_json_line", _unparseable(given), number) from fault
    except msgspec.DecodeError as fault:
        raise _refused(
            "invalid_type", f"Invalid type for '{name}': expected a string.", number, name
        ) from fault


def _unparseable(data: bytes) -> str:
    """Return what is wrong with a line that is no JSON object, and why where that can be seen."""
    said = "This line is not parseable as valid JSON"
    if not data.strip():
        return f"{said}: it is empty."
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return f"{said}: it begins with a byte order mark. Save the file as UTF-8 without one."
    try:
        data.decode()
    except UnicodeDecodeError:
        return f"{said}: it is not UTF-8."
    return f"{said}."


def _refused(code: str, message: str, line: int, param: str | None = None) -> LineRefused:
    return LineRefused(BatchError(code, message, param, line))


def line_error(error: GatewayError, number: int, about: str = "") -> BatchError:
    """Return what is wrong with a line whose request cannot be served, whatever happens.

    Args:
        error: that its call would get.
        number: of the line, from 1.
        about: the member of its body that is wrong, where the error does not say.
    """
    param = error.param or about
    return BatchError(
        error.code or error.error_type, error.message, f"body.{param}" if param else "body", number
    )


# ── lines that go out ────────────────────────────────────────────────────────────────────────────


class _Response(msgspec.Struct):
    status_code: int
    request_id: str
    body: msgspec.Raw


class _Why(msgspec.Struct):
    code: str
    message: str


class _Output(msgspec.Struct):
    id: str
    custom_id: str
    response: _Response | None
    error: _Why | None


def answered(name: str, custom_id: str, status: int, request_id: str, body: bytes) -> bytes:
    """Return the line of a request that was answered, with its end.

    Args:
        name: of the line, `batch_req_…`.
        custom_id: its caller's.
        status: of the answer.
        request_id: of the call.
        body: JSON.
    """
    response = _Response(status, request_id, msgspec.Raw(one_line(body)))
    return _encode(_Output(name, custom_id, response, None)) + b"\n"


def unanswered(name: str, custom_id: str, code: str, message: str = "") -> bytes:
    """Return the line of a request that was not executed, with its end."""
    return _encode(_Output(name, custom_id, None, _Why(code, message or _WHY[code]))) + b"\n"


def one_line(body: bytes) -> bytes:
    """Return JSON without line breaks, which in JSON stand only between tokens."""
    body = body.strip()
    if b"\n" in body or b"\r" in body:
        return body.replace(b"\r", b" ").replace(b"\n", b" ")
    return body


# ── the object ───────────────────────────────────────────────────────────────────────────────────


class BatchView(NamedTuple):
    """A batch as its caller sees it."""

    id: str
    endpoint: str
    model: str
    input_file_id: str
    status: BatchStatus
    created_at: int  # microseconds
    expires_at: int
    times: BatchTimes
    counts: BatchCounts
    usage: Usage
    errors: tuple[BatchError, ...] = ()
    output_file_id: str = ""
    error_file_id: str = ""
    metadata: dict[str, str] | None = None


def shown(batch: BatchView) -> dict[str, object]:
    """Return the official object."""
    times = {f"{name}_at": _seconds(getattr(batch.times, name)) for name in BatchTimes.__struct_fields__}
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model or None,
        "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "input_file_id": batch.input_file_id,
        "completion_window": WINDOW,
        "status": batch.status,
        "output_file_id": batch.output_file_id or None,
        "error_file_id": batch.error_file_id or None,
        "created_at": batch.created_at // _US,
        "expires_at": batch.expires_at // _US,
        **times,
        "request_counts": batch.counts._asdict(),
        "usage": _usage(batch.usage),
        "metadata": batch.metadata,
    }


def _seconds(micros: int) -> int | None:
    return micros // _US if micros else None


def _usage(used: Usage) -> dict[str, object]:
    return {
        "input_tokens": used.input_tokens,
        "input_tokens_details": {"cached_tokens": used.cached_tokens},
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "total_tokens": used.input_tokens + used.output_tokens,
    }
