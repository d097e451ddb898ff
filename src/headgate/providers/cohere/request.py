"""A chat request as the body of `/v2/chat`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headgate.errors import CallerError
from headgate.providers.chat import Shape, Tool, output_limit, read_chat, shape_of
from headgate.providers.cohere.schema import clean
from headgate.providers.parts import Image, Text, plain_text, unsupported
from headgate.providers.stance import leave_out
from headgate.values import Note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.providers.chat import ChatRequest, Choice, Schema
    from headgate.providers.parts import Part
    from headgate.providers.turns import Turn
    from headgate.values import Call, Schemas, Target

# Cohere's own members that shape an answer: their types, and what they are called there.
_OWN: Mapping[str, tuple[tuple[type, ...], str]] = {
    "top_k": ((int, float), "k"),
    "safety_mode": ((str,), "safety_mode"),
    "citation_options": ((dict,), "citation_options"),
    "thinking": ((dict,), "thinking"),
}
_HONOURED = frozenset(
    {
        *("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "stop", "logprobs"),
        *("tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", *_OWN),
    }
)
_CHOICES = {"none": "NONE", "required": "REQUIRED", "named": "REQUIRED"}
_BUDGETS = {"minimal": 1_024, "low": 1_024, "medium": 8_192}  # tokens; more effort: none
_LEAST_P, _MOST_P = 0.01, 0.99
_UINT64 = 1 << 64
# Those before one that reasons, and its siblings that do not. An unknown name is taken for a new one.
_PLAIN = re.compile(r"command($|-(light|nightly|r|a$|a-03|a-vision|a-translate))|c4ai-")


def reasons(model: str) -> bool:
    """Say whether a model can think before it answers, read off its name."""
    return _PLAIN.match(model.lower()) is None


def schema_tool(shape: Shape) -> str:
    """Return the name of the tool that stands for the schema of an answer; empty: none does.

    Cohere gives a schema's answer by itself, but not where there are tools.

    Raises:
        CallerError: the schema is not of an object.
    """
    return shape.tool() if may_call(shape.tools, shape.choice) else ""


def keeps_schema(call: Call, _target: Target) -> Schemas:
    """Return what Cohere does for the JSON that an answer shall be.

    It keeps to what its words can say of a schema; where a tool may be called it has no word for it.
    """
    shape = shape_of(call)
    if _calls_tools(call):
        return "tried" if shape.schema is not None else "none"
    return "enforced" if shape.schema is None or not clean(shape.schema.schema)[1] else "tried"


def _calls_tools(call: Call) -> bool:
    tools, choice = (bytes(call.members.get(name, b"null")) for name in ("tools", "tool_choice"))
    return tools not in {b"null", b"[]"} and choice != b'"none"'


def build(call: Call, target: Target) -> dict[str, Any]:
    """Return the body.

    Raises:
        CallerError: what Cohere, or this model, cannot do.
    """
    asked = read_chat(call, target, _HONOURED - frozenset(target.host.drops))
    return _Building(call, target, asked).body()


class _Building:
    """One request on its way."""

    def __init__(self, call: Call, target: Target, asked: ChatRequest) -> None:
        self._call = call
        self._target = target
        self._asked = asked

    def _leave_out(self, name: str, *, tuning: bool = True) -> None:
        leave_out(self._call, self._target, name, tuning=tuning)

    def body(self) -> dict[str, Any]:
        """Return the whole body."""
        call, asked = self._call, self._asked
        body: dict[str, Any] = {"model": self._target.model.name, "messages": self._messages()}
        if call.stream:
            body["stream"] = True
        if call.shrunk_to or call.max_output is not None:
            body["max_tokens"] = output_limit(call, self._target)
        self._sample(body)
        if asked.stop:
            body["stop_sequences"] = list(asked.stop)
        if asked.logprobs:
            body["logprobs"] = True
        self._own(body)
        self._think(body)
        self._shape(body)
        return body

    # ── messages ────────────────────────────────────────────────────────────────────────────────

    def _messages(self) -> list[dict[str, Any]]:
        """Return the conversation; what the system says stands first and is one."""
        turns = self._asked.turns
        system = [plain_text(turn.parts, f"{turn.path}.content") for turn in turns if turn.role == "system"]
        text = "\n\n".join(filter(None, system))
        said = [message for turn in turns if turn.role != "system" and (message := self._message(turn))]
        if not said:  # there must be one: what there is of the system's is what is asked
            return [{"role": "user", "content": text}]
        return [{"role": "system", "content": text}, *said] if text else said

    def _message(self, turn: Turn) -> dict[str, Any]:
        if turn.name and turn.role != "tool":
            self._leave_out("messages[].name")
        if turn.role == "assistant":
            return self._said(turn)
        if turn.role == "tool":
            text = plain_text(turn.parts, f"{turn.path}.content")
            return {"role": "tool", "tool_call_id": turn.answers, "content": text}
        parts = [_part(part, f"{turn.path}.content[{at}]") for at, part in enumerate(turn.parts)]
        plain = len(parts) == 1 and parts[0]["type"] == "text"
        return {"role": "user", "content": parts[0]["text"] if plain else parts or ""}

    def _said(self, turn: Turn) -> dict[str, Any]:
        """Return what the model said: its text, or its calls with what it thought and said before them."""
        text = plain_text(turn.parts, f"{turn.path}.content")
        if not turn.calls:
            return {"role": "assistant", "content": text} if text else {}
        calls = [
            {
                "id": use.id,
                "type": "function",
                "function": {"name": use.name, "arguments": use.arguments.strip() or "{}"},
            }
            for use in turn.calls
        ]
        message: dict[str, Any] = {"role": "assistant", "tool_calls": calls}
        if turn.thought and reasons(self._target.model.name):
            message["content"] = [{"type": "thinking", "thinking": turn.thought}]
            if text:
                message["content"].append({"type": "text", "text": text})
        elif plan := "\n".join(filter(None, (turn.thought, text))):
            message["tool_plan"] = plan
        return message

    # ── how ─────────────────────────────────────────────────────────────────────────────────────

    def _sample(self, body: dict[str, Any]) -> None:
        asked = self._asked
        if asked.temperature is not None:
            body["temperature"] = asked.temperature
        if asked.top_p is not None:
            body["p"] = within = min(max(asked.top_p, _LEAST_P), _MOST_P)
            if within != asked.top_p:
                self._call.notes.append(Note("x-headgate-changed", f"top_p={within}"))
        for name in ("frequency_penalty", "presence_penalty"):
            value = getattr(asked, name)
            if value is not None and 0 <= value <= 1:
                body[name] = value
            elif value is not None:
                self._leave_out(name)
        if asked.seed is not None and 0 <= asked.seed < _UINT64:
            body["seed"] = asked.seed
        elif asked.seed is not None:
            self._leave_out("seed")

    def _own(self, body: dict[str, Any]) -> None:
        for name, (types, theirs) in _OWN.items():
            value = self._asked.extras.get(name)
            if value is None:
                continue
            if not isinstance(value, types) or isinstance(value, bool):
                raise CallerError(f"Invalid type for '{name}'.", param=name, code="invalid_type")
            body[theirs] = value

    def _think(self, body: dict[str, Any]) -> None:
        """Add thinking by the effort, where the caller has no setting of Cohere's."""
        effort = self._asked.reasoning_effort
        if not effort or "thinking" in body:
            return
        if not reasons(self._target.model.name):
            if effort != "none":
                self._leave_out("reasoning_effort")
        elif effort == "none":
            body["thinking"] = {"type": "disabled"}
        else:
            budget = {"token_budget": _BUDGETS[effort]} if effort in _BUDGETS else {}
            body["thinking"] = {"type": "enabled", **budget}

    # ── tools and schemas ───────────────────────────────────────────────────────────────────────

    def _shape(self, body: dict[str, Any]) -> None:
        """Add the tools, and the form of the answer: where a tool may be called, a schema is one of them."""
        asked, schema = self._asked, self._asked.schema
        callable_tools = may_call(asked.tools, asked.choice)
        wrapped = schema_tool(Shape(schema, asked.tools, asked.choice))
        if (asked.json_object or schema is not None) and not callable_tools:
            body["response_format"] = {"type": "json_object"}
            if schema is not None:
                body["response_format"]["json_schema"] = self._cleaned(schema)
            return
        if asked.json_object:
            self._leave_out("response_format", tuning=False)
        if asked.tools:
            self._add_tools(body, wrapped)

    def _cleaned(self, schema: Schema) -> dict[str, Any]:
        """Return a schema in Cohere's words. What has none is missed in the answer where it was promised."""
        cleaned, lost = clean(schema.schema)
        for keyword in lost:
            self._leave_out(f"response_format.json_schema.schema.{keyword}", tuning=schema.strict is not True)
        return cleaned

    def _add_tools(self, body: dict[str, Any], wrapped: str) -> None:
        asked, schema, choice = self._asked, self._asked.schema, self._asked.choice
        only = choice.name if choice is not None and choice.mode == "named" else ""
        body["tools"] = [_tool(tool) for tool in asked.tools if not only or tool.name == only]
        strict = any(tool.strict for tool in asked.tools)
        if wrapped and schema is not None:
            description = schema.description or "Give the answer in this form."
            body["tools"].append(_tool(Tool(wrapped, description, schema.schema)))
            strict = strict or schema.strict is True
        if strict:
            body["strict_tools"] = True
        if wrapped or (choice is not None and choice.mode in _CHOICES):
            body["tool_choice"] = "REQUIRED" if wrapped or choice is None else _CHOICES[choice.mode]


def may_call(tools: tuple[Tool, ...], choice: Choice | None) -> bool:
    """Say whether the model may call a tool."""
    return bool(tools) and (choice is None or choice.mode != "none")


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.parameters}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _part(part: Part, path: str) -> dict[str, Any]:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image():
            url = part.url or f"data:{part.media_type or 'image/jpeg'};base64,{part.data}"
            image = {"url": url} | ({"detail": part.detail} if part.detail else {})
            return {"type": "image_url", "image_url": image}
        case _:
            raise unsupported(f"{path}.type")
