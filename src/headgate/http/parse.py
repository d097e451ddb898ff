"""Bytes to a `Call`. The 400s of a request's own shape are born here, and only here."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, cast

import msgspec

from headgate.errors import CallerError
from headgate.http.scan import scan
from headgate.values import Call, Media, Shape
from headgate.wire.checks import Check, decode, missing
from headgate.wire.media import MEASURES
from headgate.wire.messages import Weight, inspect, plain_bytes, text_bytes
from headgate.wire.names import ByNames
from headgate.wire.requests import (
    DEFAULT_MODELS,
    INPUT_MEMBERS,
    MEMBERS,
    NOT_NULL,
    REQUIRED,
    SELF_CONTAINED,
    SHAPED_MEMBERS,
    is_own_tool,
)
from headgate.wire.strict import LOOKED_INTO
from headgate.wire.uploads import UPLOADS

if TYPE_CHECKING:
    from headgate.values import Operation

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_PARSE_FAULT = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "
    "library correctly. The API expects a JSON payload, but what was sent was not valid JSON"
)
_PRICED_TIERS = frozenset({"flex", "priority", "fast"})
_COUNTS = frozenset({"n", "best_of", "prompt", "input"})
_LIMITS = ("max_completion_tokens", "max_tokens")
_NO_MESSAGES = Weight(0)
_LONGEST_SEEN, _MOST_SEEN = 256, 32  # bytes of the parameters that are kept, and how many of one shape


class _Said(msgspec.Struct, frozen=True):
    """What the values of a body's members say."""

    values: dict[str, object]
    model: str
    stream: bool
    max_output: int | None
    include_usage: bool
    tier: str
    more: bool  # there is more to note: what `_note` does


class _Shape(msgspec.Struct, frozen=True):
    """What the names of a body's members say, whatever their values are."""

    missing: str  # the first one that must be there and is not
    checked: tuple[tuple[str, Check, bool], ...]  # each with its check, and whether it may be null
    unknown: tuple[str, ...]
    special: bool  # there are such, or others that strict hosts look into
    inputs: tuple[str, ...]  # read as input, besides the messages
    counted: bool  # something may say how many answers there are
    limits: tuple[str, ...]
    tools: bool
    # Takes those that are checked, where none of them is input; else none.
    parameters: Callable[[dict[str, msgspec.Raw]], tuple[msgspec.Raw, ...]]
    seen: dict[bytes, _Said]  # what these were before, as they came: clients repeat theirs
    bare: bool  # nothing but the messages can be input,
    talk: bool  # and there are some
    measure: Callable[[Call, dict[str, object]], None] | None  # of what makes no text


def _shape(operation: Operation, names: tuple[str, ...]) -> _Shape:
    checks = MEMBERS[operation]
    checked = tuple(name for name in names if name in checks and name != "messages")
    inputs = tuple(name for name in names if name in INPUT_MEMBERS)
    unknown = tuple(name for name in names if name not in checks)
    bare = not (inputs or unknown)
    return _Shape(
        next((name for name in REQUIRED[operation] if name not in names), ""),
        tuple((name, checks[name], name not in NOT_NULL) for name in checked),
        unknown,
        bool(unknown) or not LOOKED_INTO.isdisjoint(names),
        inputs,
        not _COUNTS.isdisjoint(names),
        tuple(name for name in _LIMITS if name in names),
        "tools" in names or "web_search_options" in names,
        (lambda _: ()) if inputs else itemgetter(*checked, "model"),  # with one name alone it gives no tuple
        {},
        bare,
        bare and operation == "chat",
        MEASURES.get(operation) or UPLOADS.get(operation),
    )


# By the operation, and the names of its members.
_shapes = ByNames(lambda names: _shape(cast("Operation", names[0]), names[1:]))


def parse(body: bytes, call: Call) -> None:
    """Fill `call` from a request body, checking every member that OpenAI documents.

    Members are kept as raw JSON, the last of a doubled name: what is sent upstream is rebuilt from
    exactly these.

    Raises:
        CallerError: 400 in OpenAI's words, with the path of the first fault.
    """
    scan(body)
    try:
        members = _members(body)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise _unreadable(fault) from fault
    shape = _shapes[call.operation, *members]
    if shape.missing:
        shape = _supplied(call, members, shape)
    parameters = b"\n".join(shape.parameters(members))
    said = shape.seen.get(parameters) or _said(members, shape, parameters)
    call.members = members
    call.model = said.model
    call.stream = said.stream
    call.max_output = said.max_output
    if said.more:
        _note(call, said, shape)
    if shape.talk and (size := plain_bytes(members["messages"])):  # nothing but texts
        call.input_bytes = size
    else:
        _weigh(call, said.values, shape)
        if shape.measure is not None:
            shape.measure(call, said.values)


def _note(call: Call, said: _Said, shape: _Shape) -> None:
    """Note what few calls say."""
    call.unknown, call.special = shape.unknown, shape.special
    if said.include_usage:
        call.include_usage = True
    if said.tier:
        call.tier = said.tier
    if shape.counted:
        call.n = _choices(call, said.values)


def _said(members: dict[str, msgspec.Raw], shape: _Shape, parameters: bytes) -> _Said:
    """Check and read the members, and keep what they say if they are plain."""
    values = _values(members, shape)
    said = _read(values, shape)
    plain = not any(isinstance(value, (list, dict)) for value in values.values())
    if parameters and plain and len(parameters) <= _LONGEST_SEEN:
        if len(shape.seen) >= _MOST_SEEN:
            shape.seen.clear()
        shape.seen[parameters] = said
    return said


def _values(members: dict[str, msgspec.Raw], shape: _Shape) -> dict[str, object]:
    """Check the members; return those that say something."""
    values: dict[str, object] = {}
    for name, check, optional in shape.checked:
        try:
            value = decode(members[name])
        except msgspec.DecodeError as fault:  # a number that no machine holds: 1e999, 5,000 digits
            raise CallerError(f"Invalid '{name}': {fault}.", param=name, code="invalid_value") from fault
        if value is None and optional:
            continue
        check(name, value)
        values[name] = value
    return values


def _supplied(call: Call, members: dict[str, msgspec.Raw], shape: _Shape) -> _Shape:
    """Fill in the model where an operation has one by default."""
    default = DEFAULT_MODELS.get(call.operation)
    if default is None or shape.missing != "model":
        raise missing(shape.missing)
    members["model"] = msgspec.Raw(b'"%b"' % default.encode())
    return _shape(call.operation, tuple(members))


def _unreadable(fault: Exception) -> CallerError:
    """Return what is wrong with a body that was not read."""
    if isinstance(fault, RecursionError):
        return CallerError("The JSON body of your request is nested too deeply.")
    if isinstance(fault, msgspec.ValidationError):
        return CallerError("The JSON body of your request must be an object.")
    return CallerError(f"{_PARSE_FAULT}: {fault}.)")


def _read(values: dict[str, object], shape: _Shape) -> _Said:
    model, options, tier = values["model"], values.get("stream_options"), values.get("service_tier")
    assert type(model) is str
    if not model:
        raise missing("model")
    stream, most = values.get("stream") is True, None
    for name in shape.limits:  # which one a provider heeds is its own affair: the hold covers the larger
        limit = values.get(name)
        if isinstance(limit, (int, float)):
            most = max(most or 0, int(limit))
    if options is not None and not stream:
        raise CallerError(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    include_usage = isinstance(options, dict) and options.get("include_usage") is True
    priced = str(tier) if tier in _PRICED_TIERS else ""
    more = include_usage or shape.counted or shape.special or bool(priced)
    return _Said(values, model, stream, most, include_usage, priced, more)


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


def _weigh(call: Call, values: dict[str, object], shape: _Shape) -> None:
    """Note what the request holds that may be read as input."""
    weight = inspect(bytes(call.members["messages"])) if call.operation == "chat" else _NO_MESSAGES
    size, images, audio, hidden = weight.size, weight.images, weight.audio, weight.hidden
    if weight.structured:
        call.structured = call.special = True
    if not shape.bare:
        more, unseen = _weigh_others(call, values, shape)
        size, hidden = size + more, hidden + unseen
    call.input_bytes = size
    if images or audio or hidden:
        call.media = Media(images, audio, hidden, weight.files, weight.stored)


def _weigh_others(call: Call, values: dict[str, object], shape: _Shape) -> tuple[int, int]:
    """Return the bytes of the other members that may be read as input, and how many show not all of it."""
    members, size, hidden = call.members, 0, 0
    for name in shape.inputs:
        size += text_bytes(bytes(members[name]))
        if name in SHAPED_MEMBERS:
            call.shaped += len(bytes(members[name]))
            if name == "response_format":
                _note_shape(call, values.get(name))
    for name in call.unknown:
        size += text_bytes(bytes(members[name]))
        hidden += name not in SELF_CONTAINED
    if shape.tools and call.operation == "chat":
        hidden += _brought(values)
    if "prediction" in values and call.operation == "chat":
        call.predicted = text_bytes(bytes(members["prediction"]))
    return size, hidden


def _note_shape(call: Call, wanted: object) -> None:
    if isinstance(wanted, dict) and wanted.get("type") != "text":
        call.shape = Shape(wanted)


def _brought(values: dict[str, object]) -> int:
    """Return how many tools of the provider may bring input of their own."""
    tools = values.get("tools")
    found = sum(not is_own_tool(tool) for tool in tools) if isinstance(tools, list) else 0
    return found + ("web_search_options" in values)
