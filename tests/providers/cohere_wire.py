"""Answers of Cohere as its servers spell them: the same answer whole and streamed."""

from __future__ import annotations

import json
from typing import Any

USAGE = {
    "billed_units": {"input_tokens": 11, "output_tokens": 3},
    "cached_tokens": 448,
    "tokens": {"input_tokens": 506, "output_tokens": 4},
}
_ID = "20ae3cc4-46d2-4e78-8566-83649fbfc218"


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def thought(said: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": said}


def call(name: str, arguments: str, given: str = "") -> dict[str, Any]:
    inside = {"name": name, "arguments": arguments}
    return {"id": given or f"{name}_3v76fs3zjrgq", "type": "function", "function": inside}


def body(*content: dict[str, Any], finish: str = "COMPLETE", usage: Any = USAGE, **more: Any) -> bytes:
    """A whole answer; `plan`, `calls` and `citations` go into the message, all else beside it."""
    message: dict[str, Any] = {"role": "assistant"}
    if content:
        message["content"] = list(content)
    names = {"plan": "tool_plan", "calls": "tool_calls", "citations": "citations"}
    message |= {theirs: more.pop(name) for name, theirs in names.items() if name in more}
    made = {"finish_reason": finish, "id": _ID, "message": message, "usage": usage, **more}
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode()


def event(kind: str, message: Any = None, index: int | None = None, **more: Any) -> bytes:
    made: dict[str, Any] = {**more}
    if message is not None:
        made["delta"] = {"message": message}
    if index is not None:
        made["index"] = index
    made["type"] = kind
    data = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


def ended(finish: str | None = "COMPLETE", usage: Any = USAGE, **more: Any) -> bytes:
    return event("message-end", delta={"finish_reason": finish, "usage": usage, **more})


DONE = b"data: [DONE]\n\n"
START = event(
    "message-start",
    {"citations": [], "content": [], "role": "assistant", "tool_calls": [], "tool_plan": ""},
    id=_ID,
)


def stream(*content: dict[str, Any], finish: str = "COMPLETE", usage: Any = USAGE, **more: Any) -> bytes:
    """The same as `body` as a stream: texts and arguments in two pieces."""
    out = [START]
    for index, block in enumerate(content):
        member = "thinking" if block["type"] == "thinking" else "text"
        said = block[member]
        out.append(event("content-start", {"content": {"type": block["type"], member: ""}}, index))
        for piece in (said[:2], said[2:]):
            out.append(event("content-delta", {"content": {member: piece}}, index))
        out.append(event("content-end", index=index))
    if plan := more.get("plan"):
        out += [event("tool-plan-delta", {"tool_plan": piece}) for piece in (plan[:3], plan[3:])]
    for index, one in enumerate(more.get("calls", ())):
        name, arguments = one["function"]["name"], one["function"]["arguments"]
        begun = {**one, "function": {"name": name, "arguments": ""}}
        out.append(event("tool-call-start", {"tool_calls": begun}, index))
        for piece in filter(None, (arguments[:4], arguments[4:])):
            out.append(event("tool-call-delta", {"tool_calls": {"function": {"arguments": piece}}}, index))
        out.append(event("tool-call-end", index=index))
    for index, citation in enumerate(more.get("citations", ())):
        out += [event("citation-start", {"citations": citation}, index), event("citation-end", index=index)]
    return b"".join([*out, ended(finish, usage), DONE])
