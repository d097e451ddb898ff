"""Answers in Google's form as bytes, spelt as its servers spell them: the same answer whole and streamed."""

from __future__ import annotations

import json
from typing import Any

USAGE = {
    "promptTokenCount": 29,
    "candidatesTokenCount": 10,
    "totalTokenCount": 241,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 29}],
    "thoughtsTokenCount": 202,
}
_COMMON = {"modelVersion": "gemini-2.5-flash", "responseId": "hqklaZ2tGJ-DxN8P"}


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"text": said, **more}


def call(name: str, args: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A part that calls a function; `id` and `thoughtSignature` go where they belong."""
    inside = {"name": name, "args": args or {}}
    if "id" in more:
        inside["id"] = more.pop("id")
    return {"functionCall": inside, **more}


def candidate(*parts: dict[str, Any], finish: str | None = "STOP", index: int = 0, **more: Any) -> dict:
    made: dict[str, Any] = {"index": index, **more}
    if parts:
        made["content"] = {"parts": list(parts), "role": "model"}
    if finish is not None:
        made["finishReason"] = finish
    return made


def body(*candidates: dict[str, Any], usage: Any = None, **more: Any) -> bytes:
    """A whole answer, with Google's indentation."""
    made: dict[str, Any] = {**({"candidates": list(candidates)} if candidates else {}), **more}
    return json.dumps(
        {**made, "usageMetadata": usage or USAGE, **_COMMON}, indent=2, ensure_ascii=False
    ).encode()


def frame(*candidates: dict[str, Any], usage: Any = None, **more: Any) -> bytes:
    """One chunk of a stream, ended as Google ends it."""
    made: dict[str, Any] = {**({"candidates": list(candidates)} if candidates else {}), **more}
    made |= {"usageMetadata": usage or USAGE, **_COMMON}
    return f"data: {json.dumps(made, ensure_ascii=False)}\r\n\r\n".encode()


def stream(*parts: dict[str, Any], finish: str = "STOP", usage: dict[str, Any] | None = None) -> bytes:
    """The parts of one candidate as a stream: texts in pieces, the signature of a text on an empty last part."""
    last = usage or USAGE
    early = {"promptTokenCount": last["promptTokenCount"], "totalTokenCount": last["promptTokenCount"]}
    pieces: list[dict[str, Any]] = []
    for part in parts:
        words = part.get("text", "")
        if len(words) < 4:
            pieces.append(part)
            continue
        plain = {name: value for name, value in part.items() if name != "thoughtSignature"}
        pieces += [{**plain, "text": words[:2]}, {**plain, "text": words[2:]}]
        if "thoughtSignature" in part:
            pieces[-1]["thoughtSignature"] = part["thoughtSignature"]
    frames = [frame(candidate(piece, finish=None), usage=early) for piece in pieces]
    return b"".join([*frames, frame(candidate(text(""), finish=finish), usage=last)])
