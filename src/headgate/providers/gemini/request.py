"""A chat request as the body of `:generateContent`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.errors import CallerError
from headgate.providers.chat import output_limit, read_chat, shape_of
from headgate.providers.gemini.abilities import abilities_of
from headgate.providers.gemini.contents import contents, system_parts
from headgate.providers.gemini.schema import clean
from headgate.providers.parts import Image
from headgate.providers.stance import leave_out
from headgate.values import Note

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.providers.chat import ChatRequest, Tool
    from headgate.values import Call, Schemas, Target

# Google's own members: on the top level, or in `google`, or where its OpenAI-compatible endpoint has them.
_OWN: Mapping[str, tuple[type, ...]] = {
    "safety_settings": (list,),
    "thinking_config": (dict,),
    "cached_content": (str,),
    "top_k": (int, float),
}
_HONOURED = frozenset(
    {
        *("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "n", "stop", "logprobs"),
        *("top_logprobs", "tools", "tool_choice", "parallel_tool_calls", "response_format"),
        *("reasoning_effort", "google", "extra_body", *_OWN),
    }
)
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "topP",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
}
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
_INT32 = 1 << 31


def build(call: Call, target: Target) -> dict[str, Any]:
    """Return the body.

    Raises:
        CallerError: what Gemini, or this one, cannot do.
    """
    asked = read_chat(call, target, _HONOURED - frozenset(target.host.drops))
    return _Building(call, target, asked).body()


def keeps_schema(call: Call, target: Target) -> Schemas:
    """Return what Gemini does for the JSON that an answer shall be.

    It keeps to what its words can say of a schema. Beside functions, older models answer in no form.
    """
    if (
        not abilities_of(target.model.name).schema_with_tools
        and bytes(call.members.get("tools", b"[]")) != b"[]"
    ):
        return "none"
    schema = shape_of(call).schema
    return "enforced" if schema is not None and not clean(schema.schema)[1] else "tried"


class _Building:
    """One request on its way."""

    def __init__(self, call: Call, target: Target, asked: ChatRequest) -> None:
        self._call = call
        self._target = target
        self._asked = asked
        self._able = abilities_of(target.model.name)
        self._own = _own(asked, self._leave_out)

    def _leave_out(self, name: str, *, tuning: bool = True) -> None:
        leave_out(self._call, self._target, name, tuning=tuning)

    def body(self) -> dict[str, Any]:
        """Return the whole body."""
        turns, own = self._asked.turns, self._own
        images = [part for turn in turns for part in turn.parts if isinstance(part, Image)]
        if any(image.detail in {"low", "high"} for image in images):
            self._leave_out("messages[].content[].image_url.detail")
        body: dict[str, Any] = {}
        system, said = system_parts(turns), contents(turns, signed=self._able.signed)
        if not said:  # there must be a content: what there is of the system's is what is asked
            system, said = [], [{"role": "user", "parts": system or [{"text": " "}]}]
        if system:
            body["systemInstruction"] = {"parts": system}
        body["contents"] = said
        self._add_tools(body)
        config = self._config()
        if config:
            body["generationConfig"] = config
        if "safety_settings" in own:
            body["safetySettings"] = own["safety_settings"]
        if "cached_content" in own:
            body["cachedContent"] = own["cached_content"]
        return body

    def _config(self) -> dict[str, Any]:
        call, asked = self._call, self._asked
        config: dict[str, Any] = {}
        if call.shrunk_to or call.max_output is not None:
            config["maxOutputTokens"] = output_limit(call, self._target)
        for name, theirs in _SAMPLING.items():
            value = getattr(asked, name)
            if value is not None:
                config[theirs] = value
        if "top_k" in self._own:
            config["topK"] = self._own["top_k"]
        if asked.n > 1:
            config["candidateCount"] = asked.n
        if asked.stop:
            config["stopSequences"] = list(asked.stop)
        if asked.logprobs:
            config["responseLogprobs"] = True
        if asked.top_logprobs:
            config["logprobs"] = asked.top_logprobs
        self._seed(config)
        self._shape(config)
        self._think(config)
        return config

    def _seed(self, config: dict[str, Any]) -> None:
        seed = self._asked.seed
        if seed is None:
            return
        if -_INT32 <= seed < _INT32:
            config["seed"] = seed
        else:
            self._leave_out("seed")

    def _shape(self, config: dict[str, Any]) -> None:
        """Ask for JSON, of a schema where there is one."""
        asked = self._asked
        if asked.schema is None and not asked.json_object:
            return
        if asked.tools and not self._able.schema_with_tools:
            self._leave_out("response_format", tuning=False)
            return
        config["responseMimeType"] = "application/json"
        if asked.schema is not None:
            where, strict = "response_format.json_schema.schema", asked.schema.strict is True
            config["responseJsonSchema"] = self._cleaned(asked.schema.schema, where, strict=strict)

    def _cleaned(self, schema: Mapping[str, Any], where: str, *, strict: bool) -> dict[str, Any]:
        """Return a schema in Gemini's words. What has none is missed in the answer where it was promised."""
        cleaned, lost = clean(schema)
        for keyword in lost:
            self._leave_out(f"{where}.{keyword}", tuning=not strict)
        return cleaned

    def _think(self, config: dict[str, Any]) -> None:
        """Add thinking: the caller's own setting, else what the effort comes to."""
        own = self._own.get("thinking_config", {})
        thinking = {_camel(name): value for name, value in own.items()}
        effort, able = self._asked.reasoning_effort, self._able
        if effort and not thinking.keys() & {"thinkingBudget", "thinkingLevel"}:
            meant = effort
            if able.budgets:
                thinking["thinkingBudget"] = budget = able.budgets[effort]
                meant = "minimal" if effort == "none" and budget else effort
            elif able.levels:
                thinking["thinkingLevel"] = meant = able.levels[effort]
            else:
                self._leave_out("reasoning_effort")
            if meant != effort:
                self._call.notes.append(Note("x-headgate-changed", f"reasoning_effort={meant}"))
        if thinking:
            config["thinkingConfig"] = thinking

    def _add_tools(self, body: dict[str, Any]) -> None:
        tools, choice = self._asked.tools, self._asked.choice
        if not tools:
            return
        body["tools"] = [{"functionDeclarations": [self._tool(tool) for tool in tools]}]
        if choice is None:
            return
        calling: dict[str, Any] = {"mode": _MODES[choice.mode]}
        if choice.mode == "named":
            calling["allowedFunctionNames"] = [choice.name]
        body["toolConfig"] = {"functionCallingConfig": calling}

    def _tool(self, tool: Tool) -> dict[str, Any]:
        made: dict[str, Any] = {"name": tool.name}
        if tool.description:
            made["description"] = tool.description
        where = "tools[].function.parameters"
        parameters = self._cleaned(tool.parameters, where, strict=tool.strict is True)
        if parameters.keys() & {"$ref", "anyOf"} or parameters.get("properties"):
            parameters.setdefault("type", "object")
            made["parametersJsonSchema"] = parameters
        return made


def _own(asked: ChatRequest, leave_out: Callable[[str], None]) -> dict[str, Any]:
    """Return Google's own members, wherever they stand.

    Raises:
        CallerError: one of them is not of its kind.
    """
    found = {name: asked.extras[name] for name in _OWN if name in asked.extras}
    outer = asked.extras.get("extra_body")
    inner = outer.get("google") if isinstance(outer, dict) else None
    for place, group in (("google", asked.extras.get("google")), ("extra_body.google", inner)):
        for name, value in group.items() if isinstance(group, dict) else ():
            if name not in _OWN:
                leave_out(f"{place}.{name}")
            elif value is not None:
                found[name] = value
    for name, value in found.items():
        if not isinstance(value, _OWN[name]):
            raise CallerError(f"Invalid type for '{name}'.", param=name, code="invalid_type")
    return found


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
