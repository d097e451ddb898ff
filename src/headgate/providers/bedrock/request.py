"""A chat request as the body of Converse.

What a model takes beside Converse's own members is in `additionalModelRequestFields`, in the model's words.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import CallerError
from headgate.providers.anthropic.abilities import abilities_of as claude_abilities
from headgate.providers.anthropic.blocks import drop_once
from headgate.providers.anthropic.request import is_closed, sample, think
from headgate.providers.bedrock.abilities import abilities_of
from headgate.providers.bedrock.content import Conversation, mark
from headgate.providers.chat import SAFE_OUTPUT, Shape, output_limit, read_chat, shape_of
from headgate.providers.parts import unsupported
from headgate.providers.stance import leave_out
from headgate.values import Note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.providers.bedrock.abilities import Abilities
    from headgate.providers.chat import ChatRequest, Choice, Schema, Tool
    from headgate.values import Call, Schemas, Target

_FIELDS = "additionalModelRequestFields"
_OWN = (_FIELDS, "guardrailConfig")  # Bedrock's, as they are; other members of its may cost more
_HONOURED = frozenset(
    {
        *("temperature", "top_p", "stop", "tools", "tool_choice", "parallel_tool_calls", "response_format"),
        *("reasoning_effort", "metadata", "thinking", "top_k", "cache_control", *_OWN),
    }
)
_LABEL = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}")
# A model's own members by which a call could cost more than its hold: limits, choices, tiers, billed tools.
_LIMIT = re.compile(r".*max.*(tok|len).*", re.IGNORECASE)  # at any depth
_NOT_OWN = re.compile(r"n|best_of|num_generations|service_tier|speed|tools|mcp_servers|prediction")
_NOVA_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high"}


def schema_tool(shape: Shape, target: Target) -> str:
    """Return the name of the tool that stands for the schema of an answer; empty: none does.

    Raises:
        CallerError: the schema is not of an object.
    """
    able = abilities_of(target.model.name)
    if shape.schema is None or not able.forced or _is_native(shape.schema, able):
        return ""
    return shape.tool()


def keeps_schema(call: Call, target: Target) -> Schemas:
    """Return what a model at Bedrock does for the JSON that an answer shall be.

    Some keep to a schema by themselves, some get it as a tool that is called for sure, the rest have no word
    for it; and nobody has one for JSON without a schema.
    """
    schema, able = shape_of(call).schema, abilities_of(target.model.name)
    if schema is None:
        return "none"
    if _is_native(schema, able):
        return "enforced"
    return "tried" if able.forced else "none"


def _is_native(schema: Schema, able: Abilities) -> bool:
    """Say whether the model gives a schema's answer by itself."""
    return able.schema and (is_closed(schema.schema) or not able.forced)


def build(call: Call, target: Target) -> dict[str, Any]:
    """Return the body.

    Raises:
        CallerError: what Bedrock, or this model, cannot do.
    """
    asked = read_chat(call, target, _HONOURED - frozenset(target.host.drops))
    return _Building(call, target, asked).body()


class _Building:
    """One request on its way."""

    def __init__(self, call: Call, target: Target, asked: ChatRequest) -> None:
        self._call = call
        self._target = target
        self._asked = asked
        self._able = abilities_of(target.model.name)
        self._config: dict[str, Any] = {}  # `inferenceConfig`
        self._fields: dict[str, Any] = {}  # the model's own
        self._output: dict[str, Any] = {}  # `outputConfig`

    def _leave_out(self, name: str, *, tuning: bool = True) -> None:
        leave_out(self._call, self._target, name, tuning=tuning)

    def _changed(self, what: str) -> None:
        self._call.notes.append(Note("x-headgate-changed", what))

    def body(self) -> dict[str, Any]:
        """Return the whole body."""
        tools = self._tools()
        self._limits()
        self._reason(tools)
        self._sample()
        body = self._said(flat=tools is None)
        optional = {
            "inferenceConfig": self._config,
            "toolConfig": tools,
            "outputConfig": self._output,
            "requestMetadata": self._labels(),
            "guardrailConfig": self._own("guardrailConfig"),
            _FIELDS: self._fields | self._own_fields(),
        }
        return body | {name: value for name, value in optional.items() if value}

    def _said(self, *, flat: bool) -> dict[str, Any]:
        conversation = Conversation(self._call, self._able, flat=flat)
        system = conversation.system(self._asked.turns)
        messages = conversation.messages(self._asked.turns)
        if system and not messages:  # there must be a message: what there is of the system's is what is asked
            system, messages = [], [{"role": "user", "content": system}]
        cache = self._asked.extras.get("cache_control")
        if cache is not None and messages and self._able.caches:
            mark(messages[-1]["content"], cache, self._call)
        elif cache is not None:
            self._leave_out("cache_control")
        return {"messages": messages} | ({"system": system} if system else {})

    def _limits(self) -> None:
        call, asked = self._call, self._asked
        if call.shrunk_to or call.max_output is not None:
            self._config["maxTokens"] = output_limit(call, self._target)
        stop = [text for text in asked.stop if text.strip() or (text and not self._able.claude)]
        if len(stop) < len(asked.stop):
            drop_once(call, "stop")  # blank ones are a 400
        if stop:
            self._config["stopSequences"] = stop

    def _labels(self) -> Mapping[str, str]:
        """Return the metadata, which is for the same use; Bedrock takes fewer characters."""
        given = self._asked.metadata
        if all(name and _LABEL.fullmatch(name) and _LABEL.fullmatch(given[name]) for name in given):
            return given
        self._leave_out("metadata")
        return {}

    def _own(self, name: str) -> dict[str, Any]:
        """Return one of Bedrock's own members.

        Raises:
            CallerError: it is not an object.
        """
        value = self._asked.extras.get(name, {})
        if not isinstance(value, dict):
            raise CallerError(f"Invalid type for '{name}'.", param=name, code="invalid_type")
        return value

    def _own_fields(self) -> dict[str, Any]:
        given = self._own(_FIELDS)
        for name in given:
            if _NOT_OWN.fullmatch(name) or _limits(name, given[name]):
                raise unsupported(f"{_FIELDS}.{name}")
        return given

    # ── tools and schemas ───────────────────────────────────────────────────────────────────────

    def _tools(self) -> dict[str, Any] | None:
        """Return `toolConfig`, where a tool may be called."""
        asked = self._asked
        wrapped = self._shape()
        never = asked.choice is not None and asked.choice.mode == "none"
        if not wrapped and (never or not asked.tools):
            return None
        tools = []
        for tool in () if never else asked.tools:
            tools.append(self._tool(tool))
            if tool.cache is not None and self._able.caches_tools:
                mark(tools, tool.cache, self._call)
            elif tool.cache is not None:
                drop_once(self._call, "cache_control")
        choice = _choice(asked.choice)
        if wrapped and asked.schema is not None:
            description = asked.schema.description or "Give the answer in this form."
            spec = {"name": wrapped, "description": description, "inputSchema": {"json": asked.schema.schema}}
            tools.append({"toolSpec": spec})
            choice = {"any": {}}
        return {"tools": tools} | ({"toolChoice": choice} if choice else {})

    def _shape(self) -> str:
        """Ask for JSON of a schema; return the name of the tool that stands for it, where one must."""
        asked, schema = self._asked, self._asked.schema
        if asked.json_object:
            self._leave_out("response_format", tuning=False)
        if schema is None:
            return ""
        if _is_native(schema, self._able):
            wanted: dict[str, Any] = {
                "schema": msgspec.json.encode(schema.schema).decode(),
                "name": schema.name,
            }
            if schema.description:
                wanted["description"] = schema.description
            self._output["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": wanted}}
            return ""
        if not self._able.forced:
            self._leave_out("response_format", tuning=False)
        return schema_tool(Shape(schema, asked.tools, asked.choice), self._target)

    def _tool(self, tool: Tool) -> dict[str, Any]:
        schema = {"type": "object", **tool.parameters}
        spec: dict[str, Any] = {"name": tool.name, "inputSchema": {"json": schema}}
        if tool.description:
            spec["description"] = tool.description
        if tool.strict and self._able.schema and is_closed(schema):
            spec["strict"] = True
        return {"toolSpec": spec}

    # ── reasoning and sampling ──────────────────────────────────────────────────────────────────

    def _reason(self, tools: dict[str, Any] | None) -> None:
        effort = self._asked.reasoning_effort
        match self._able.reasoning:
            case "claude":
                self._as_claude(tools)
                return
            case "nova" if effort:
                self._as_nova(effort)
            case "word" | "nested" as form if effort:
                word = {"minimal": "low", "max": "high", "xhigh": "high", "none": "low"}.get(effort, effort)
                if form == "nested":  # of the makers of the words: all but one
                    word = "low" if effort == "minimal" else effort
                if word != effort:
                    self._changed(f"reasoning_effort={word}")
                self._fields |= (
                    {"reasoning_effort": word} if form == "word" else {"reasoning": {"effort": word}}
                )
            case "" if effort:
                self._leave_out("reasoning_effort")
        for name in ("thinking", "top_k"):  # Claude's
            if name in self._asked.extras:
                self._leave_out(name)

    def _as_claude(self, tools: dict[str, Any] | None) -> None:
        """Add thinking and sampling as they are for Claude, where they have the same place or words."""
        call, target = self._call, self._target
        able = claude_abilities(target.model.name)
        most = call.shrunk_to or call.max_output or target.model.max_output or SAFE_OUTPUT
        forced = bool(tools and tools.get("toolChoice", {}).keys() & {"any", "tool"})
        native: dict[str, Any] = {"max_tokens": most, "tool_choice": {"type": "any" if forced else "auto"}}
        think(native, self._asked, able, call)
        sample(native, self._asked, able, call)
        if native.get("thinking", {}).get("type") == "enabled" and "maxTokens" not in self._config:
            self._config["maxTokens"] = output_limit(call, target)  # above the budget
        if "textFormat" in self._output:  # the model's own member would take the place of the schema's
            self._output |= native.pop("output_config", {})
        self._config |= {ours: native[name] for name, ours in _SAMPLING.items() if name in native}
        self._fields |= {
            name: native[name] for name in ("thinking", "output_config", "top_k") if name in native
        }

    def _as_nova(self, effort: str) -> None:
        """Say how much to reason. The most excludes every other member of `inferenceConfig`."""
        if effort == "none":
            self._fields["reasoningConfig"] = {"type": "disabled"}
            return
        word = _NOVA_EFFORTS.get(effort, "high")
        asked = self._asked
        if word == "high" and (
            "maxTokens" in self._config or asked.temperature is not None or asked.top_p is not None
        ):
            word = "medium"
        if word != effort:
            self._changed(f"reasoning_effort={word}")
        self._fields["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": word}

    def _sample(self) -> None:
        asked = self._asked
        if self._able.claude:
            return
        if asked.temperature is not None:
            self._config["temperature"] = min(asked.temperature, 1)
            if asked.temperature > 1:
                self._changed("temperature=1")
        if asked.top_p is not None:
            self._config["topP"] = asked.top_p


def _limits(name: str, value: Any) -> bool:
    """Say whether a member is a limit, or holds one."""
    inside = value.items() if isinstance(value, dict) else ()
    return _LIMIT.fullmatch(name) is not None or any(_limits(*item) for item in inside)


_SAMPLING = {"temperature": "temperature", "top_p": "topP"}


def _choice(choice: Choice | None) -> dict[str, Any]:
    """Return `toolChoice`; `auto` is what is so anyway, and a 400 of models that know no choice."""
    if choice is None or choice.mode in {"auto", "none"}:
        return {}
    return {"any": {}} if choice.mode == "required" else {"tool": {"name": choice.name}}
