"""Bytes to a `Call`. The 400s of a request's own shape are born here, and only here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.errors import CallerError
from headgate.http.scan import scan
from headgate.values import Media
from headgate.wire.checks import decode, missing
from headgate.wire.messages import inspect, text_bytes
from headgate.wire.requests import (
    INPUT_MEMBERS,
    MEMBERS,
    NOT_NULL,
    REQUIRED,
    SELF_CONTAINED,
    SHAPED_MEMBERS,
    is_own_tool,
)

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
    call.n = _choices(call, values)
    limits = (values.get("max_completion_tokens"), values.get("max_tokens"))
    # Which one a provider heeds is its own affair: the hold covers the larger.
    call.max_output = max((int(limit) for limit in limits if isinstance(limit, (int, float))), default=None)
    options = values.get("stream_options")
    if options is not None and not call.stream:
        raise CallerError(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    call.include_usage = isinstance(options, dict) and options.get("include_usage") is True
    tier = values.get("service_tier")
    if tier in _PRICED_TIERS:
        call.tier = str(tier)
    _weigh(call, values)


def _choices(call: Call, values: dict[str, object]) -> int:
    """Return how many answers are generated, and billed."""
    count, best_of = values.get("n"), values.get("best_of")
    choices = int(count) if isinstance(count, (int, float)) else 1
    if isinstance(best_of, (int, float)) and best_of > choices:
        choices = int(best_of)
    given = values.get("prompt", values.get("input"))
    if isinstance(given, list) and not isinstance(given[0], (int, float)):
        call.inputs = len(given)  # each prompt has its own answers
    return choices * call.inputs


def _weigh(call: Call, values: dict[str, object]) -> None:
    """Note what the request holds that may be read as input."""
    members = call.members
    size = images = audio = hidden = 0
    if call.operation == "chat":
        size, images, audio, hidden, call.structured = inspect(bytes(members["messages"]))
    for name in members.keys() & INPUT_MEMBERS:
        size += text_bytes(bytes(members[name]))
        if name in SHAPED_MEMBERS:
            call.shaped += len(bytes(members[name]))
    for name in call.unknown:
        size += text_bytes(bytes(members[name]))
        hidden += name not in SELF_CONTAINED
    if call.operation == "chat":
        hidden += _brought(values)
        if "prediction" in values:
            call.predicted = text_bytes(bytes(members["prediction"]))
    call.input_bytes = size
    if images or audio or hidden:
        call.media = Media(images, audio, hidden)


def _brought(values: dict[str, object]) -> int:
    """Return how many tools of the provider may bring input of their own."""
    tools = values.get("tools")
    found = sum(not is_own_tool(tool) for tool in tools) if isinstance(tools, list) else 0
    return found + ("web_search_options" in values)
