"""A caller's `POST /v1/messages` as a chat request, for targets that speak another wire.

What has no counterpart there and changes nothing of the answer's kind (thinking of earlier turns, cache
marks, `top_k`) is left out and named; what would be missed is refused. Tools of the provider's own that have
a price by the call are refused for every target, because no book here has that price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from headgate.errors import CallerError
from headgate.providers.parts import read_data_url

if TYPE_CHECKING:
    from collections.abc import Mapping

_REQUIRED = ("model", "max_tokens", "messages")
_KNOWN = frozenset(
    {
        *(*_REQUIRED, "system", "metadata", "stop_sequences", "stream", "temperature", "top_k", "top_p"),
        *("thinking", "tool_choice", "tools", "output_config", "service_tier", "speed", "cache_control"),
        *("context_management", "diagnostics"),
    }
)
_LEFT_OUT = ("top_k", "thinking", "cache_control", "context_management", "diagnostics")
_PRICED_TOOLS = ("web_search", "code_execution")
_MOST_STOPS = 4  # that OpenAI takes
_CHOICES: Mapping[str, str] = {"auto": "auto", "any": "required", "none": "none"}


class _Message(msgspec.Struct, gc=False):
    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class Asked(msgspec.Struct, gc=False):
    """A request as chat, and what that leaves out."""

    body: dict[str, Any]
    dropped: list[str]
    hidden_bytes: int = 0  # of what is left out, and is input all the same where it is not


def _invalid(path: str, what: str) -> CallerError:
    return CallerError(f"{path}: {what}", param=path, code="invalid_value")


def to_chat(given: dict[str, Any]) -> Asked:
    """Return the chat request of a decoded body.

    Raises:
        CallerError: in Anthropic's manner, with the path of the fault.
    """
    _check_names(given)
    asked = Asked({"model": given["model"], "max_tokens": given["max_tokens"]}, [])
    body = asked.body
    body["messages"] = _system(given.get("system")) + _conversation(given["messages"], asked)
    for name in ("temperature", "top_p", "stream"):
        if given.get(name) is not None:
            body[name] = given[name]
    tools = _list("tools", given.get("tools") or [])
    if tools:
        body["tools"] = [_tool(index, tool) for index, tool in enumerate(tools)]
        _choose(body, given.get("tool_choice"))
    stops = _list("stop_sequences", given.get("stop_sequences") or [])
    if stops:
        body["stop"] = stops[:_MOST_STOPS]
    if len(stops) > _MOST_STOPS:
        asked.dropped.append(f"stop_sequences[{_MOST_STOPS}:]")
    user = _dict("metadata", given.get("metadata")).get("user_id")
    if isinstance(user, str):
        body["user"] = user
    _format(body, _dict("output_config", given.get("output_config")))
    asked.dropped += [name for name in _LEFT_OUT if given.get(name) is not None]
    return asked


def _check_names(given: Mapping[str, Any]) -> None:
    for name in _REQUIRED:
        if name not in given:
            raise _invalid(name, "Field required")
    for name in given:
        if name not in _KNOWN:
            raise _invalid(name, "Extra inputs are not permitted")


def _list(path: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _invalid(path, "Input should be a valid list")
    return value


def _dict(path: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _invalid(path, "Input should be a valid dictionary")
    return value


def _text(path: str, block: Mapping[str, Any], name: str) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        raise _invalid(
            f"{path}.{name}", "Field required" if value is None else "Input should be a valid string"
        )
    return value


def _system(system: Any) -> list[dict[str, Any]]:
    if not system:
        return []
    return [{"role": "system", "content": _plain("system", system)}]


def _plain(path: str, content: Any) -> str:
    """Return the text of a content that is nothing else."""
    if isinstance(content, str):
        return content
    blocks = enumerate(_list(path, content))
    return "\n".join(_text(f"{path}.{index}", _dict(path, block), "text") for index, block in blocks)


def _conversation(messages: Any, asked: Asked) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for index, raw in enumerate(_list("messages", messages)):
        path = f"messages.{index}"
        try:
            message = msgspec.convert(raw, _Message)
        except msgspec.ValidationError as fault:
            raise _invalid(path, str(fault)) from fault
        content = message.content
        if message.role == "assistant":
            found.append(_assistant(path, content, asked))
        elif message.role == "system" or isinstance(content, str):
            found.append({"role": message.role, "content": _plain(f"{path}.content", content)})
        else:
            found += _user(path, content)
    return found


def _user(path: str, blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the tool messages of a user's turn, and what it says besides; images of results go with that."""
    results: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for index, block in enumerate(blocks):
        here = f"{path}.content.{index}"
        if block.get("type") != "tool_result":
            parts.append(_part(here, block))
            continue
        inner = block.get("content") or []
        inside = [{"type": "text", "text": inner}] if isinstance(inner, str) else _list(here, inner)
        found = [_part(f"{here}.content.{at}", each) for at, each in enumerate(inside)]
        texts = [part["text"] for part in found if part["type"] == "text"]
        parts += [part for part in found if part["type"] != "text"]
        answers = _text(here, block, "tool_use_id")
        results.append({"role": "tool", "tool_call_id": answers, "content": "\n".join(texts)})
    return [*results, {"role": "user", "content": parts}] if parts else results


def _part(path: str, block: Any) -> dict[str, Any]:
    block = _dict(path, block)
    match block.get("type"):
        case "text":
            return {"type": "text", "text": _text(path, block, "text")}
        case "image":
            url = _url(path, _dict(f"{path}.source", block.get("source")))
            return {"type": "image_url", "image_url": {"url": url}}
        case "document":
            return _document(path, block)
        case kind:
            raise _invalid(f"{path}.type", f"a block of type {kind!r} is not served here")


def _url(path: str, source: Mapping[str, Any]) -> str:
    match source.get("type"):
        case "base64":
            where = f"{path}.source"
            media_type, data = _text(where, source, "media_type"), _text(where, source, "data")
            url = f"data:{media_type};base64,{data}"
            read_data_url(where, url)
            return url
        case "url":
            return _text(f"{path}.source", source, "url")
        case kind:
            raise _invalid(f"{path}.source.type", f"a source of type {kind!r} is not served here")


def _document(path: str, block: Mapping[str, Any]) -> dict[str, Any]:
    source = _dict(f"{path}.source", block.get("source"))
    if source.get("type") == "text":
        return {"type": "text", "text": _text(f"{path}.source", source, "data")}
    name = block.get("title")
    file = {"filename": name if isinstance(name, str) else "document.pdf", "file_data": _url(path, source)}
    return {"type": "file", "file": file}


def _assistant(path: str, content: str | list[dict[str, Any]], asked: Asked) -> dict[str, Any]:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    texts, calls = [], []
    for index, block in enumerate(content):
        here = f"{path}.content.{index}"
        match block.get("type"):
            case "text":
                texts.append(_text(here, block, "text"))
            case "tool_use":
                arguments = msgspec.json.encode(block.get("input") or {}).decode()
                function = {"name": _text(here, block, "name"), "arguments": arguments}
                calls.append({"id": _text(here, block, "id"), "type": "function", "function": function})
            case "thinking" | "redacted_thinking":
                asked.hidden_bytes += len(msgspec.json.encode(block))
            case kind:
                raise _invalid(f"{here}.type", f"a block of type {kind!r} is not served here")
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    if calls:
        message["tool_calls"] = calls
    elif not texts:
        message["content"] = ""
    return message


def _tool(index: int, given: Any) -> dict[str, Any]:
    path = f"tools.{index}"
    tool = _dict(path, given)
    kind = tool.get("type") or "custom"
    if isinstance(kind, str) and kind.startswith(_PRICED_TOOLS):
        raise _invalid(f"{path}.type", f"the tool {kind!r} has a price by the call, and is not served here")
    if kind != "custom":
        return dict(tool)  # one that its makers know: other targets refuse it by its type
    function = {"name": _text(path, tool, "name"), "parameters": tool.get("input_schema") or {}}
    if isinstance(tool.get("description"), str):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _choose(body: dict[str, Any], given: Any) -> None:
    choice = _dict("tool_choice", given)
    kind = choice.get("type")
    if kind == "tool":
        body["tool_choice"] = {"type": "function", "function": {"name": _text("tool_choice", choice, "name")}}
    elif isinstance(kind, str) and kind in _CHOICES:
        body["tool_choice"] = _CHOICES[kind]
    elif choice:
        raise _invalid("tool_choice.type", "Input should be 'auto', 'any', 'tool' or 'none'")
    if choice.get("disable_parallel_tool_use") is True:
        body["parallel_tool_calls"] = False


def _format(body: dict[str, Any], config: Mapping[str, Any]) -> None:
    wanted = _dict("output_config.format", config.get("format"))
    if wanted:
        if wanted.get("type") != "json_schema" or not isinstance(wanted.get("schema"), dict):
            raise _invalid("output_config.format", "Input should be a JSON schema")
        shape = {"name": "answer", "schema": wanted["schema"], "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": shape}
