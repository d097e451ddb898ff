"""Bytes to a `Call`. The 400s of a request's own shape are born here, and only here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.errors import CallerError
from headgate.http.scan import scan
from headgate.wire.checks import decode, missing
from headgate.wire.messages import inspect
from headgate.wire.requests import MEMBERS, NOT_NULL, REQUIRED

if TYPE_CHECKING:
    from headgate.values import Call

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_PARSE_FAULT = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "
    "library correctly. The API expects a JSON payload, but what was sent was not valid JSON"
)
_PRICED_TIERS = frozenset({"flex", "priority", "fast"})


def parse(body: bytes, call: Call) -> None:
    """Fill `call` from a request body, checking every member that OpenAI documents.

    Members are kept as raw JSON, the last of a doubled name: what is sent upstream is rebuilt from
    exactly these.

    Raises:
        CallerError: 400 in OpenAI's words, with the path of the first fault.
    """
    members = _split(body)
    checks = MEMBERS[call.operation]
    for name in REQUIRED[call.operation]:
        if name not in members:
            raise missing(name)
    values: dict[str, object] = {}
    unknown = []
    for name, raw in members.items():
        check = checks.get(name)
        if check is None:
            unknown.append(name)
        elif name != "messages":
            value = _value(name, raw)
            if value is None and name not in NOT_NULL:
                continue
            check(name, value)
            values[name] = value
    if unknown:
        call.unknown = tuple(unknown)
    call.members = members
    _read(call, values)


def _value(name: str, raw: msgspec.Raw) -> object:
    try:
        return decode(raw)
    except msgspec.DecodeError as fault:  # a number that no machine holds: 1e999, 5,000 digits
        raise CallerError(f"Invalid '{name}': {fault}.", param=name, code="invalid_value") from fault


def _split(body: bytes) -> dict[str, msgspec.Raw]:
    scan(body)
    try:
        return _members(body)
    except msgspec.DecodeError as fault:
        if isinstance(fault, msgspec.ValidationError):
            raise CallerError("The JSON body of your request must be an object.") from fault
        raise CallerError(f"{_PARSE_FAULT}: {fault}.)") from fault
    except RecursionError as fault:
        raise CallerError("The JSON body of your request is nested too deeply.") from fault


def _read(call: Call, values: dict[str, object]) -> None:
    model = values["model"]
    assert type(model) is str
    if not model:
        raise missing("model")
    call.model = model
    call.stream = values.get("stream") is True
    count = values.get("n")
    call.n = int(count) if isinstance(count, (int, float)) else 1
    best_of = values.get("best_of")
    if isinstance(best_of, (int, float)) and best_of > call.n:
        call.n = int(best_of)  # every candidate is generated, and billed
    prompt = values.get("prompt")
    if isinstance(prompt, list) and not isinstance(prompt[0], int):
        call.n *= len(prompt)  # each prompt has its own answers
    limits = (values.get("max_completion_tokens"), values.get("max_tokens"))
    # Which one a provider heeds is its own affair: the hold covers the larger.
    call.max_output = max((int(limit) for limit in limits if isinstance(limit, (int, float))), default=0)
    options = values.get("stream_options")
    if options is not None and not call.stream:
        raise CallerError(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    call.include_usage = isinstance(options, dict) and options.get("include_usage") is True
    tier = values.get("service_tier")
    if tier in _PRICED_TIERS:
        call.tier = str(tier)
    call.input_bound = _input_bound(call)


def _input_bound(call: Call) -> int:
    """Return an upper bound of the input's UTF-8 bytes, which bounds its tokens.

    A JSON value is never shorter than its text, and a message's own overhead of tokens is below the
    bytes of `{"role":"user","content":""}`.
    """
    members = call.members
    if call.operation == "chat":
        bound, call.images = inspect(bytes(members["messages"]))
        for name in ("tools", "functions", "response_format", "tool_choice"):
            if name in members:
                bound += len(bytes(members[name]))
        return bound + 16
    if call.operation == "completions":
        raw = bytes(members["prompt"])
        return len(raw) + len(bytes(members.get("suffix", b"")))
    return len(bytes(members["input"]))
