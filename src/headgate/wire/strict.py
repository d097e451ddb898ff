"""What OpenAI refuses beyond types and ranges, in its own words. For hosts that take only what it documents.

Compatible hosts allow more: other parts, other tools, looser histories. What they refuse, they say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headgate.errors import CallerError, NotFound, PermissionRefused
from headgate.wire.checks import (
    Check,
    Json,
    anything,
    decode_any,
    invalid_value,
    length,
    mapping,
    one_of,
    required,
    short_text,
    text,
    unknown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import msgspec

    from headgate.values import Call, Model

_PARTS = ("text", "image_url", "input_audio", "refusal", "audio", "file")
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_AUTHOR = re.compile(r"[^\s<|\\/>]+")
_ONLY_WITH = (("tool_choice", "tools"), ("parallel_tool_calls", "tools"), ("function_call", "functions"))
LOOKED_INTO = frozenset(
    {
        *("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
        *("top_logprobs", "stream_options", "response_format", "max_completion_tokens"),
    }
)
_WHOLE_VECTORS = frozenset({"text-embedding-ada-002"})  # are not shortened
_MEDIA = frozenset(
    {
        *("moderations", "images", "speech", "videos"),
        *("image_edits", "image_variations", "transcriptions", "translations"),
    }
)
_KNOWN_OPTIONS = frozenset({"include_usage", "include_obfuscation"})


def refuse_strictly(call: Call) -> None:
    """Refuse what OpenAI refuses.

    Raises:
        CallerError: its 400 for the first thing that is wrong.
    """
    if call.unknown:
        raise unknown(call.unknown[0])
    if call.operation != "chat":
        return
    asked = LOOKED_INTO.intersection(call.members)
    if asked:
        given = {name: decode_any(call.members[name]) for name in asked}
        _refuse_members({name: value for name, value in given.items() if value is not None}, call)
    if call.structured:
        _refuse_messages(decode_any(call.members["messages"]))


def refuse_misplaced(call: Call, model: Model) -> None:
    """Refuse what a model of OpenAI's does not do, as OpenAI would have done it.

    Sources: the sentences in many public logs of 404 and 403 answers; of `best_of` and `dimensions`, 400s.

    Raises:
        CallerError: 404 or 403 for the wrong route, 400 for a member that this model does not take.
    """
    asked, does = call.operation, model.operations
    textless = asked in _MEDIA
    if asked not in does and ((textless and model.exact) or _MEDIA.issuperset(does)):
        raise NotFound(f"The model `{model.name}` does not support {asked}.", param="model")
    if not model.exact or textless:  # not surely OpenAI's
        return
    if asked != "embeddings" and does == ("embeddings",):
        raise PermissionRefused("You are not allowed to sample from this model")
    if asked == "embeddings":
        if asked not in does:
            raise PermissionRefused("You are not allowed to generate embeddings from this model")
        _refuse_dimensions(call, model)
    elif asked == "chat" and does == ("completions",):
        raise NotFound(
            "This is not a chat model and thus not supported in the v1/chat/completions endpoint. Did you "
            "mean to use v1/completions?",
            param="model",
        )
    elif asked == "completions":
        if asked not in does:
            raise NotFound(
                "This is a chat model and not supported in the v1/completions endpoint. Did you mean to use "
                "v1/chat/completions?",
                param="model",
            )
        _refuse_choices(call)


def _refuse_dimensions(call: Call, model: Model) -> None:
    wanted = decode_any(call.members["dimensions"]) if _says(call.members, "dimensions") else None
    if wanted is None or not model.dimensions:
        return
    if model.name in _WHOLE_VECTORS:
        raise CallerError("This model does not support specifying dimensions.")
    if wanted > model.dimensions:
        raise CallerError(
            f"Invalid value for 'dimensions' = {wanted}. Must be less than or equal to {model.dimensions}."
        )


def _refuse_choices(call: Call) -> None:
    given = {name: decode_any(call.members[name]) for name in ("n", "best_of") if name in call.members}
    count, best_of = given.get("n") or 1, given.get("best_of")
    if best_of is not None and best_of < count:
        raise CallerError(
            "You requested that the server return more choices than it will generate (HINT: you must set 'n' "
            f"(currently {count}) to be at most 'best_of' (currently {best_of}), or omit either parameter if "
            "you don't specifically want to use them.)"
        )


def _refuse_members(given: Mapping[str, Json], call: Call) -> None:
    if "max_completion_tokens" in given and _says(call.members, "max_tokens"):
        raise CallerError(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            param="max_tokens",
            code="invalid_parameter_combination",
        )
    for name in given.get("stream_options", {}):
        if name not in _KNOWN_OPTIONS:
            raise unknown(f"stream_options.{name}")
    _refuse_tools(given)
    for name, other in _ONLY_WITH:
        if name in given and other not in given:
            raise CallerError(
                f"Invalid value for '{name}': '{name}' is only allowed when '{other}' are specified.",
                param=name,
            )
    _refuse_undeclared(given)
    if "top_logprobs" in given and bytes(call.members.get("logprobs", b"")) != b"true":
        raise CallerError(
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.", param="top_logprobs"
        )
    _refuse_format(given.get("response_format"), call)


def _says(members: Mapping[str, msgspec.Raw], name: str) -> bool:
    return name in members and bytes(members[name]) != b"null"


def _refuse_tools(given: Mapping[str, Json]) -> None:
    for name in ("functions", "tools"):
        if name in given:
            length(name, given[name], 1, 0)
    for index, function in enumerate(given.get("functions", ())):
        _named(f"functions[{index}].name", function["name"])
    for index, tool in enumerate(given.get("tools", ())):
        one_of("function", "custom")(f"tools[{index}].type", tool["type"])
        _named(f"tools[{index}].{tool['type']}.name", tool[tool["type"]]["name"])


def _named(path: str, value: Json, pattern: re.Pattern[str] = _NAME) -> None:
    """Accept a name of at most 64 characters of a pattern."""
    text(path, value)
    if not value:
        raise CallerError(
            f"Invalid '{path}': empty string. Expected a string with minimum length 1, but got an empty "
            "string instead.",
            param=path,
            code="empty_string",
        )
    short_text(64)(path, value)
    if not pattern.fullmatch(value):
        raise CallerError(
            f"Invalid '{path}': string does not match pattern. Expected a string that matches the pattern "
            f"'^{pattern.pattern}$'.",
            param=path,
            code="invalid_value",
        )


def _refuse_undeclared(given: Mapping[str, Json]) -> None:
    """Refuse a choice of a function that is not there; OpenAI names the older members for both."""
    for name, choice, declared in (
        ("function_call", given.get("function_call"), given.get("functions", ())),
        (
            "function_call",
            _function_of(given.get("tool_choice")),
            [_function_of(tool) for tool in given.get("tools", ())],
        ),
    ):
        if not isinstance(choice, dict):
            continue
        if choice["name"] not in [function["name"] for function in declared if function]:
            raise CallerError(
                f"Invalid value for '{name}': no function named '{choice['name']}' was specified in the "
                "'functions' parameter.",
                param=name,
            )


def _function_of(value: Json) -> Json:
    return value.get("function") if isinstance(value, dict) else None


def _refuse_format(wanted: Json, call: Call) -> None:
    if wanted is None:
        return
    if wanted["type"] == "json_schema":
        _named("response_format.json_schema.name", wanted["json_schema"]["name"])
    if wanted["type"] == "json_object" and b"json" not in bytes(call.members["messages"]).lower():
        raise CallerError(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
            "'json_object'.",
            param="messages",
        )


def _refuse_messages(messages: Json) -> None:
    called: set[str] = set()  # by the last assistant that called
    open_ids: list[str] = []  # of those not answered yet
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        _refuse_message(path, message)
        if message["role"] == "tool":
            if message["tool_call_id"] not in called:
                raise CallerError(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
                    "with 'tool_calls'.",
                    param=f"messages.[{index}].role",
                )
            open_ids = [name for name in open_ids if name != message["tool_call_id"]]
            continue
        _refuse_unanswered(open_ids, index)
        open_ids = [entry["id"] for entry in message.get("tool_calls") or ()]
        called = set(open_ids)
    _refuse_unanswered(open_ids, len(messages))


def _refuse_unanswered(ids: list[str], index: int) -> None:
    if ids:
        raise CallerError(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(ids)}",
            param=f"messages.[{index}].role",
        )


def _refuse_message(path: str, message: Json) -> None:
    if message.get("name") is not None:
        _named(f"{path}.name", message["name"], _AUTHOR)
    content = message.get("content")
    if isinstance(content, list):
        length(f"{path}.content", content, 1, 0)
        for index, part in enumerate(content):
            _refuse_part(f"{path}.content[{index}]", part)
    calls = message.get("tool_calls")
    if calls is not None:
        length(f"{path}.tool_calls", calls, 1, 0)
        for index, entry in enumerate(calls):
            _refuse_call(f"{path}.tool_calls[{index}]", entry)


def _refuse_call(path: str, entry: Json) -> None:
    mapping(path, entry)
    required(path, entry, "id", text)
    required(path, entry, "type", one_of("function", "custom"))
    kind = entry["type"]
    required(path, entry, kind, mapping)
    required(f"{path}.{kind}", entry[kind], "name", text)
    required(f"{path}.{kind}", entry[kind], "arguments" if kind == "function" else "input", text)


_INSIDE: Mapping[str, tuple[tuple[str, Check], ...]] = {
    "image_url": (("url", text),),
    "input_audio": (("data", text), ("format", one_of("wav", "mp3"))),
    "file": (),
}


def _refuse_part(path: str, part: Json) -> None:
    kind = part["type"]
    if kind not in _PARTS:
        raise invalid_value(f"{path}.type", kind, _PARTS)
    inside = _INSIDE.get(kind)
    if inside is None:
        required(path, part, kind, anything)
        return
    required(path, part, kind, mapping)
    for name, check in inside:
        required(f"{path}.{kind}", part[kind], name, check)
    if kind == "image_url" and part[kind].get("detail") is not None:
        one_of("auto", "low", "high", "original")(f"{path}.image_url.detail", part[kind]["detail"])
