"""A chat request as the body of `POST /v1/messages`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.providers.anthropic.abilities import abilities_of
from headgate.providers.anthropic.blocks import cache_control, drop_once, messages, system_blocks
from headgate.providers.chat import Shape, output_limit, read_chat
from headgate.providers.stance import leave_out
from headgate.values import Note

if TYPE_CHECKING:
    from headgate.providers.anthropic.abilities import Abilities
    from headgate.providers.chat import ChatRequest, Choice, Schema, Tool
    from headgate.values import Call, Target

HONOURED = frozenset(
    {
        *("temperature", "top_p", "stop", "tools", "tool_choice", "parallel_tool_calls", "response_format"),
        *("reasoning_effort", "user", "safety_identifier", "thinking", "top_k", "cache_control"),
    }
)
# Of thinking, where a model takes a number instead of a word: tokens.
_BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 32_768, "max": 65_536}
_LEAST_BUDGET = 1_024
_OPEN = frozenset(  # what `output_config.format` does not enforce, and refuses
    {
        *(
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
            "minLength",
            "maxLength",
        ),
        *("minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "patternProperties"),
        *("oneOf", "not", "if", "then", "else", "prefixItems", "contains", "propertyNames"),
    }
)


def build(call: Call, target: Target, *, keeps: bool = True) -> tuple[dict[str, Any], bool]:
    """Return the body, and whether it has sampling parameters.

    Args:
        call: for chat.
        target: where to.
        keeps: its host takes schemas that it keeps to, of answers and of tools.

    Raises:
        CallerError: what Claude, or this one, cannot do.
    """
    asked = read_chat(call, target, HONOURED)
    able = abilities_of(target.model.name)
    if asked.json_object:
        leave_out(call, target, "response_format", tuning=False)
    body: dict[str, Any] = {"model": target.model.name, "max_tokens": output_limit(call, target)}
    system = system_blocks(asked.turns, call)
    if system:
        body["system"] = system
    body["messages"] = messages(asked.turns, call)
    tools = [_tool(tool, call, strict=keeps) for tool in asked.tools]
    if asked.schema is not None and keeps and is_native(asked.schema, target):
        body["output_config"] = {"format": {"type": "json_schema", "schema": asked.schema.schema}}
        _add_tools(body, asked, tools, "")
    else:
        _add_tools(body, asked, tools, Shape(asked.schema, asked.tools, asked.choice).tool())
    think(body, asked, able, call)
    stop = [text for text in asked.stop if text.strip()]
    if len(stop) < len(asked.stop):
        drop_once(call, "stop")  # blank ones are a 400
    if stop:
        body["stop_sequences"] = stop
    if asked.user:
        body["metadata"] = {"user_id": asked.user}
    if "cache_control" in asked.extras:
        body["cache_control"] = cache_control(asked.extras["cache_control"], call)
    samples = sample(body, asked, able, call)
    if call.stream:
        body["stream"] = True
    return body, samples


def is_native(schema: Schema, target: Target) -> bool:
    """Say whether the model gives a schema's answer by itself."""
    return abilities_of(target.model.name).schema and is_closed(schema.schema)


def is_closed(schema: Any) -> bool:
    """Say whether `output_config.format` takes a schema: every object names all its members."""
    if isinstance(schema, list):
        return all(map(is_closed, schema))
    if not isinstance(schema, dict):
        return True
    if schema.keys() & _OPEN:
        return False
    kinds = schema.get("type")
    if (kinds == "object" or (isinstance(kinds, list) and "object" in kinds)) and schema.get(
        "additionalProperties"
    ) is not False:
        return False
    named = [schema[name] for name in ("properties", "$defs", "definitions") if name in schema]
    inner = [value for group in named if isinstance(group, dict) for value in group.values()]
    inner += [schema[name] for name in ("items", "anyOf", "allOf") if name in schema]
    return is_closed(inner) if inner else True


def _add_tools(
    body: dict[str, Any], asked: ChatRequest, tools: list[dict[str, Any]], schema_tool: str
) -> None:
    choice = _choice(asked.choice) if tools else None
    parallel = asked.parallel_tool_calls is not False
    schema = asked.schema
    if schema_tool and schema is not None:
        description = schema.description or "Give the answer in this form."
        tools.append({"name": schema_tool, "description": description, "input_schema": schema.schema})
        none = not asked.tools or (asked.choice is not None and asked.choice.mode == "none")
        choice = {"type": "tool", "name": schema_tool} if none else {"type": "any"}
        parallel = False
    if not tools:
        return
    body["tools"] = tools
    if not parallel and (choice is None or choice["type"] != "none"):
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    if choice is not None:
        body["tool_choice"] = choice


def _tool(tool: Tool, call: Call, *, strict: bool) -> dict[str, Any]:
    schema = dict(tool.parameters)
    schema.setdefault("type", "object")
    made: dict[str, Any] = {"name": tool.name, "input_schema": schema}
    if tool.description:
        made["description"] = tool.description
    if strict and tool.strict and is_closed(schema):
        made["strict"] = True
    if tool.cache is not None:
        made["cache_control"] = cache_control(tool.cache, call)
    return made


def _choice(choice: Choice | None) -> dict[str, Any] | None:
    match choice:
        case None:
            return None
        case _ if choice.mode == "named":
            return {"type": "tool", "name": choice.name}
        case _:
            return {"type": {"required": "any"}.get(choice.mode, choice.mode)}


def think(body: dict[str, Any], asked: ChatRequest, able: Abilities, call: Call) -> None:
    """Add thinking to a body with `max_tokens`: the caller's own setting, else what the effort comes to."""
    forced = body.get("tool_choice", {}).get("type") in {"any", "tool"}
    own = asked.extras.get("thinking")
    if own is not None:
        body["thinking"] = own
    effort = asked.reasoning_effort
    if not effort:
        return
    if effort == "none":
        if able.always_thinks:
            drop_once(call, "reasoning_effort")
        elif able.adaptive and own is None:
            body["thinking"] = {"type": "disabled"}
        return
    if able.adaptive:
        config = body.setdefault("output_config", {})
        config["effort"] = word = _word(effort, able.efforts)
        if word != effort:
            call.notes.append(Note("x-headgate-changed", f"reasoning_effort={word}"))
        if own is None and not forced:
            body["thinking"] = {"type": "adaptive"}
        return
    budget = min(_BUDGETS[effort], body["max_tokens"] - 1)
    if not able.budget or forced or own is not None or budget < _LEAST_BUDGET or _lost_thoughts(asked):
        drop_once(call, "reasoning_effort")
    else:
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _word(effort: str, known: tuple[str, ...]) -> str:
    """Return the nearest effort that a model knows."""
    if effort in known:
        return effort
    return {"minimal": "low", "xhigh": "high"}.get(effort, known[-1])


def _lost_thoughts(asked: ChatRequest) -> bool:
    """Say whether a tool loop is open whose thinking did not come back: to go on thinking is a 400."""
    last = next((turn for turn in reversed(asked.turns) if turn.role not in {"tool", "system"}), None)
    return last is not None and bool(last.calls) and not last.sealed


def sample(body: dict[str, Any], asked: ChatRequest, able: Abilities, call: Call) -> bool:
    """Add the sampling parameters that the model takes; say whether there are any."""
    thinks = body.get("thinking", {}).get("type") in {"enabled", "adaptive"}
    given = {
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.extras.get("top_k"),
    }
    sent = {name: value for name, value in given.items() if value is not None}
    refused = set(sent) if thinks or not able.sampling else set()
    if able.one_of_sampling and "temperature" in sent:
        refused |= sent.keys() & {"top_p"}
    for name in refused:
        del sent[name]
    for name in sorted(refused):
        drop_once(call, name)
    if sent.get("temperature", 0) > 1:
        sent["temperature"] = 1
        call.notes.append(Note("x-headgate-changed", "temperature=1"))
    body.update(sent)
    return bool(sent)
