"""Turns as Gemini's contents: parts of a user's or of the model's, and the system's apart from them.

Results of functions stand in a content of their own, all of a turn together and right behind the calls. What
Gemini signed goes back with the part that it came on: `extra_content.google.thought_signature` of a tool
call, and blocks of `thinking_blocks` for texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import CallerError
from headgate.providers.parts import Audio, File, Image, Text, plain_text, unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headgate.providers.parts import Part
    from headgate.providers.turns import ToolUse, Turn

GeminiPart = dict[str, Any]
SIGNED = "thought_signature"  # the type of our blocks in `thinking_blocks`
# What Google names for a call whose signature is lost: the model goes on without what it had thought.
UNSIGNED = "skip_thought_signature_validator"
_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/md",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "wav": "audio/wav",
    "mp3": "audio/mp3",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "aac": "audio/aac",
    "mp4": "video/mp4",
    "mov": "video/mov",
    "webm": "video/webm",
}


def system_parts(turns: Iterable[Turn]) -> list[GeminiPart]:
    """Return all system and developer messages, wherever they stand, in their order.

    Raises:
        CallerError: one of them holds more than text.
    """
    texts = (plain_text(turn.parts, f"{turn.path}.content") for turn in turns if turn.role == "system")
    return [{"text": text} for text in texts if text]


def contents(turns: Iterable[Turn], *, signed: bool) -> list[dict[str, Any]]:
    """Return the conversation without the system's part; neighbours of one kind become one content.

    Args:
        turns: in their order.
        signed: the model refuses its own calls without a signature.

    Raises:
        CallerError: a part that Gemini does not take, or the result of a call that is not there.
    """
    found: list[dict[str, Any]] = []
    kinds: list[str] = []
    for turn in turns:
        if turn.role == "system":
            continue
        parts = _parts(turn, signed=signed)
        if not parts:
            continue
        if kinds and kinds[-1] == turn.role:
            found[-1]["parts"] += parts
        else:
            kinds.append(turn.role)
            found.append({"role": "model" if turn.role == "assistant" else "user", "parts": parts})
    return found


def _parts(turn: Turn, *, signed: bool) -> list[GeminiPart]:
    if turn.role == "tool":
        return [_result(turn)]
    if turn.role == "assistant":
        return _said(turn, signed=signed)
    return [_part(part, f"{turn.path}.content[{index}]") for index, part in enumerate(turn.parts)]


def _said(turn: Turn, *, signed: bool) -> list[GeminiPart]:
    """Return what the model said: its text, what is signed of it, its calls."""
    text = plain_text(turn.parts, f"{turn.path}.content")
    parts: list[GeminiPart] = [{"text": text}] if text else []
    for block in turn.sealed:
        signature = block.get("signature")
        if block.get("type") != SIGNED or not isinstance(signature, str):
            continue
        if parts and not block.get("empty"):
            parts[-1]["thoughtSignature"] = signature
        else:
            parts.append({"text": "", "thoughtSignature": signature})
    calls = [_call(use) for use in turn.calls]
    if signed and calls and not any("thoughtSignature" in call for call in calls):
        calls[0]["thoughtSignature"] = UNSIGNED
    return parts + calls


def _call(use: ToolUse) -> GeminiPart:
    part: GeminiPart = {"functionCall": {"id": use.id, "name": use.name, "args": use.input()}}
    inside = use.extra.get("google")
    signature = inside.get("thought_signature") if isinstance(inside, dict) else None
    if isinstance(signature, str) and signature:
        part["thoughtSignature"] = signature
    return part


def _result(turn: Turn) -> GeminiPart:
    if not turn.answered_name:
        raise CallerError(
            f"Invalid parameter: '{turn.path}.tool_call_id' answers no call of the messages before it.",
            param=f"{turn.path}.tool_call_id",
            code="invalid_value",
        )
    text = plain_text(turn.parts, f"{turn.path}.content")
    response = {"id": turn.answers, "name": turn.answered_name, "response": _object(text)}
    return {"functionResponse": response}


def _object(text: str) -> Mapping[str, Any]:
    """Return a result as the object that Gemini wants: JSON of one as it is, all else as its `output`."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        value = text
    return value if isinstance(value, dict) else {"output": value}


def _part(part: Part, path: str) -> GeminiPart:
    match part:
        case Text(text):
            return {"text": text}
        case Image(url="", media_type=media_type, data=data):
            return _inline(media_type or "image/jpeg", data)
        case Image(url=url):
            return _by_uri(url, _type_of(url) or "image/jpeg")
        case Audio(data, kind):
            return _inline(_TYPES.get(kind.lower(), f"audio/{kind}"), data)
        case File(data="", url="", file_id=uri) if "://" not in uri:
            raise unsupported(f"{path}.file.file_id")  # a file that OpenAI has
        case File(data="", name=name, url=url, file_id=file_id):
            uri = url or file_id
            return _by_uri(uri, _type_of(name) or _type_of(uri))
        case File(media_type=media_type, data=data):
            return _inline(media_type, data)


def _inline(media_type: str, data: str) -> GeminiPart:
    return {"inlineData": {"mimeType": media_type, "data": data.translate(_STANDARD)}}


def _by_uri(uri: str, media_type: str) -> GeminiPart:
    data = {"fileUri": uri}
    if media_type:
        data["mimeType"] = media_type
    return {"fileData": data}


_STANDARD = str.maketrans("-_", "+/")


def _type_of(name: str) -> str:
    """Return the media type that the end of a name or of a URL stands for; empty: none that is known."""
    path = name.partition("?")[0].partition("#")[0]
    return _TYPES.get(path.rpartition(".")[2].lower(), "")
