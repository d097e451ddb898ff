"""A conversation as typed turns: OpenAI's `messages`, read once for codecs of other wires.

`read_turns` keeps the order and joins nothing: what a wire wants joined (Anthropic's tool results, Gemini's
roles) is its codec's affair. What a provider wants back with a later turn rides in extra members of the
assistant's message, which clients echo: `thinking_blocks` and `reasoning_content` on the message,
`extra_content` on a tool call. A client that drops them is served all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from headgate.providers.parts import Part, Text, read_content, unsupported
from headgate.wire.checks import Json, decode_any, invalid_type, mapping, required, text

Role = Literal["system", "user", "assistant", "tool"]


class ToolUse(msgspec.Struct, frozen=True, gc=False):
    """A function that the assistant called; `arguments` as it wrote them, perhaps not JSON."""

    id: str
    name: str
    arguments: str = ""
    extra: Mapping[str, Any] = {}  # `extra_content`, as it came

    def input(self) -> dict[str, Any]:
        """Return the arguments as an object; what is none is kept as its member `arguments`."""
        if not self.arguments.strip():
            return {}
        try:
            value = msgspec.json.decode(self.arguments)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            value = self.arguments
        return value if isinstance(value, dict) else {"arguments": value}


class Turn(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message. A developer's is a system's."""

    role: Role
    path: str  # where it stands: `messages[3]`
    parts: tuple[Part, ...] = ()
    name: str = ""
    calls: tuple[ToolUse, ...] = ()  # an assistant's
    answers: str = ""  # the id of the call that a tool's message answers,
    answered_name: str = ""  # and the function's name, where the call is in the conversation
    thought: str = ""  # `reasoning_content` of an assistant's
    sealed: tuple[dict[str, Any], ...] = ()  # `thinking_blocks` of an assistant's, without their index
    cache: Json = None  # `cache_control`, as it came


def read_turns(raw: bytes | msgspec.Raw) -> tuple[Turn, ...]:
    """Return the turns of `messages`, whose roles and content types the edge has checked.

    Raises:
        CallerError: a part or a call that is not of OpenAI's form; functions of the old form.
    """
    names: dict[str, str] = {}
    turns = []
    for index, message in enumerate(decode_any(raw)):
        path = f"messages[{index}]"
        role = message["role"]
        if role == "function":
            raise unsupported(f"{path}.role")
        turn = _assistant(path, message) if role == "assistant" else _other(path, message, names)
        names.update((call.id, call.name) for call in turn.calls)
        turns.append(turn)
    return tuple(turns)


def _other(path: str, message: dict[str, Any], names: Mapping[str, str]) -> Turn:
    role, answers = message["role"], message.get("tool_call_id") or ""
    return Turn(
        role="system" if role == "developer" else role,
        path=path,
        parts=read_content(f"{path}.content", message.get("content")),
        name=message.get("name") or "",
        answers=answers if role == "tool" else "",
        answered_name=names.get(answers, message.get("name") or "") if role == "tool" else "",
        cache=message.get("cache_control"),
    )


def _assistant(path: str, message: dict[str, Any]) -> Turn:
    if message.get("function_call") is not None:
        raise unsupported(f"{path}.function_call")
    if message.get("audio") is not None:
        raise unsupported(f"{path}.audio")
    parts = read_content(f"{path}.content", message.get("content"))
    refusal, thought = message.get("refusal"), message.get("reasoning_content")
    if isinstance(refusal, str) and refusal:
        parts = (*parts, Text(refusal))
    calls = message.get("tool_calls") or ()
    return Turn(
        role="assistant",
        path=path,
        parts=parts,
        name=message.get("name") or "",
        calls=tuple(_call(f"{path}.tool_calls[{index}]", call) for index, call in enumerate(calls)),
        thought=thought if isinstance(thought, str) else "",
        sealed=_sealed(f"{path}.thinking_blocks", message.get("thinking_blocks")),
        cache=message.get("cache_control"),
    )


def _call(path: str, call: Json) -> ToolUse:
    mapping(path, call)
    if call.get("type", "function") != "function":
        raise unsupported(f"{path}.type")
    required(path, call, "id", text)
    required(path, call, "function", mapping)
    function = call["function"]
    required(f"{path}.function", function, "name", text)
    arguments, extra = function.get("arguments"), call.get("extra_content")
    if isinstance(arguments, dict):  # what some clients make of them
        arguments = msgspec.json.encode(arguments).decode()
    return ToolUse(
        call["id"],
        function["name"],
        arguments if isinstance(arguments, str) else "",
        extra if isinstance(extra, dict) else {},
    )


def _sealed(path: str, blocks: Json) -> tuple[dict[str, Any], ...]:
    if blocks is None:
        return ()
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise invalid_type(path, "an array of objects", blocks)
    return tuple({name: value for name, value in block.items() if name != "index"} for block in blocks)
