"""A chat request as one typed value, for codecs of wires that are not OpenAI's.

`read_chat` is where a codec's `encode` begins: it reads the call's checked members, applies the policy of
`stance` to those that the codec does not name, and gives everything else a type. The limit of the output is
`output_limit`: a codec whose wire needs one sends no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from headgate.providers.parts import unsupported
from headgate.providers.stance import reconcile
from headgate.providers.turns import Turn, read_turns
from headgate.values import Note
from headgate.wire.checks import decode_any

if TYPE_CHECKING:
    from collections.abc import Collection

    from headgate.values import Call, Target

SAFE_OUTPUT = 4_096  # tokens that every model makes: the limit where the wire needs one and nobody knows it


def _no_parameters() -> dict[str, Any]:
    return {"type": "object", "properties": {}}


class Tool(msgspec.Struct, frozen=True, gc=False):
    """A function that the model may call; `parameters` is a JSON schema of an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = msgspec.field(default_factory=_no_parameters)
    strict: bool | None = None
    cache: Any = None  # `cache_control` of the tool or its function, as it came


class Choice(msgspec.Struct, frozen=True, gc=False):
    """Whether tools are called: by the model's choice, never, surely, or surely the one of `name`."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str = ""


_WORDS: Mapping[str, Choice] = {
    mode.mode: mode for mode in (Choice("auto"), Choice("none"), Choice("required"))
}


class Schema(msgspec.Struct, frozen=True, gc=False):
    """The JSON schema that the answer shall have."""

    name: str
    schema: Mapping[str, Any]
    description: str = ""
    strict: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a caller asks for. None or empty: not said, or left out by the policy."""

    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()  # those alone that `tool_choice` allows
    choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    schema: Schema | None = None
    json_object: bool = False  # any JSON object
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Mapping[str, float] = {}
    seed: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0
    reasoning_effort: str = ""
    verbosity: str = ""
    user: str = ""  # `safety_identifier`, else `user`
    metadata: Mapping[str, str] = {}
    service_tier: str = ""
    modalities: tuple[str, ...] = ()
    extras: Mapping[str, Any] = {}  # every other member that the codec honours, decoded


_AS_GIVEN = (
    *("parallel_tool_calls", "temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias"),
    *("logprobs", "reasoning_effort", "verbosity", "metadata", "service_tier"),
)
_WHOLE = ("seed", "n", "top_logprobs")


def read_chat(call: Call, target: Target, honoured: Collection[str]) -> ChatRequest:
    """Return what a chat call asks for, as far as the codec honours it.

    Args:
        call: its notes say what was left out.
        target: for the policy.
        honoured: names of the members that the codec can express.

    Raises:
        CallerError: what the target cannot do, by the policy of `stance`; or a part of no known form.
    """
    given = reconcile(call, target, honoured)
    fields: dict[str, Any] = {name: given.pop(name) for name in _AS_GIVEN if name in given}
    fields.update((name, int(given.pop(name))) for name in _WHOLE if name in given)
    stop, wanted = given.pop("stop", ()), given.pop("response_format", None) or {}
    tools, choice = _choose(given.pop("tools", ()), given.pop("tool_choice", None))
    user = given.pop("user", "")
    return ChatRequest(
        turns=read_turns(call.members["messages"]),
        tools=tools,
        choice=choice,
        schema=_schema(wanted),
        json_object=wanted.get("type") == "json_object",
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        user=given.pop("safety_identifier", user),
        modalities=tuple(given.pop("modalities", ())),
        extras=given,
        **fields,
    )


class Shape(NamedTuple):
    """The schema that is asked for, and the tools beside it."""

    schema: Schema | None
    tools: tuple[Tool, ...] = ()
    choice: Choice | None = None

    def tool(self) -> str:
        """Return the name of a tool that stands for the schema: forced, its arguments are the answer exactly.

        Empty where there is none, or where a tool of the caller's is called for sure, so that no text comes.

        Raises:
            CallerError: the schema is not of an object.
        """
        schema = self.schema
        if schema is None or (self.choice is not None and self.choice.mode in {"required", "named"}):
            return ""
        if schema.schema.get("type") != "object":
            raise unsupported("response_format.json_schema.schema")
        name = schema.name
        while any(tool.name == name for tool in self.tools):
            name += "_"
        return name


def shape_of(call: Call) -> Shape:
    """Return the shape that a call asks for: what a reader must know of the request that was sent."""
    raw = call.members.get("response_format")
    wanted = decode_any(raw) if raw is not None else None
    schema = _schema(wanted or {})
    if schema is None:
        return Shape(None)
    tools, choice = (decode_any(call.members.get(name, b"null")) for name in ("tools", "tool_choice"))
    return Shape(schema, *_choose(tools or [], choice))


def wants_one_call(call: Call) -> bool:
    """Say whether the caller takes one tool call at a time: the model may repeat the others it would make."""
    asked = call.members.get("parallel_tool_calls")
    return asked is not None and bytes(asked) == b"false"


def output_limit(call: Call, target: Target) -> int:
    """Return the output limit to send where the wire needs one: never above what the hold rests on.

    It is the one that was shrunk to the money, the caller's, the model's own, or one that every model takes.
    """
    model = target.model
    if call.shrunk_to:
        call.notes.append(Note("x-headgate-max-tokens", str(call.shrunk_to)))
        return call.shrunk_to
    if call.max_output is not None:
        return call.max_output
    if model.max_output:
        return model.max_output
    call.notes.append(Note("x-headgate-max-tokens", str(SAFE_OUTPUT)))
    return min(SAFE_OUTPUT, model.context_window or SAFE_OUTPUT)


def _choose(tools: list[dict[str, Any]], wanted: Any) -> tuple[tuple[Tool, ...], Choice | None]:
    """Return the tools that may be called, and how."""
    found = tuple(_tool(f"tools[{index}]", tool) for index, tool in enumerate(tools))
    if wanted is None or not found:
        return found, None
    if isinstance(wanted, str):
        return found, _WORDS[wanted]
    kind = wanted.get("type", "function")
    if kind == "function":
        return found, Choice("named", wanted["function"]["name"])
    if kind != "allowed_tools":
        raise unsupported("tool_choice.type")
    allowed = wanted["allowed_tools"]
    names = {(tool.get("function") or {}).get("name") for tool in allowed.get("tools") or ()}
    mode = _WORDS["required" if allowed.get("mode") == "required" else "auto"]
    return tuple(tool for tool in found if tool.name in names), mode


def _tool(path: str, tool: dict[str, Any]) -> Tool:
    if tool.get("type") != "function":
        raise unsupported(f"{path}.type")
    function = tool["function"]
    parameters = function.get("parameters")
    return Tool(
        name=function["name"],
        description=function.get("description") or "",
        parameters=parameters if isinstance(parameters, dict) and parameters else _no_parameters(),
        strict=function.get("strict"),
        cache=tool.get("cache_control") or function.get("cache_control"),
    )


def _schema(wanted: dict[str, Any]) -> Schema | None:
    if wanted.get("type") != "json_schema":
        return None
    asked = wanted["json_schema"]
    schema = asked.get("schema")
    return Schema(
        name=asked["name"],
        schema=schema if isinstance(schema, dict) else {"type": "object"},
        description=asked.get("description") or "",
        strict=asked.get("strict"),
    )
