"""The `messages` of a chat request: a fast typed check, and a slow one that says what is wrong.

`inspect` decodes the array once into structs (tens of megabytes a second). Only when that fails does
`explain` walk the plain JSON to give OpenAI's sentence, code and path.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from headgate.errors import CallerError
from headgate.wire.checks import (
    Json,
    array,
    decode_any,
    invalid_type,
    invalid_value,
    length,
    mapping,
    required,
    text,
)
from headgate.wire.references import names_file

ROLES = ("system", "assistant", "user", "function", "tool", "developer")
# Parts that hold all their input as text. What others stand for, the request does not show.
SHOWN_PARTS = frozenset({"text", "refusal", "thinking", "redacted_thinking", "reasoning"})
_NOTHING = msgspec.Raw()
_NEEDS_MORE = frozenset({"tool", "function"})  # the call that is answered, the function's name


class Part(msgspec.Struct, gc=False):
    """One part of a message's content."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: msgspec.Raw = _NOTHING
    input_audio: msgspec.Raw = _NOTHING
    file: msgspec.Raw = _NOTHING


class Message(msgspec.Struct, gc=False):
    """What we look at in a message; the provider sees it as it came."""

    role: Literal["system", "assistant", "user", "function", "tool", "developer"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[msgspec.Raw] | None = None
    function_call: dict[str, msgspec.Raw] | None = None  # `Raw | None` would take only null
    audio: Any = None


class Audio(msgspec.Struct, gc=False):
    """What an audio part carries."""

    data: str = ""


class _Plain(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A message that is a text and nothing else, as most are."""

    role: Literal["system", "assistant", "user", "developer"]
    content: str


_decode = msgspec.json.Decoder(list[Message]).decode
_decode_plain = msgspec.json.Decoder(list[_Plain]).decode
_decode_audio = msgspec.json.Decoder(Audio).decode


class Weight(msgspec.Struct, gc=False):
    """What a conversation is made of."""

    size: int  # UTF-8 bytes of its text with the JSON around it
    images: int = 0
    audio: int = 0  # base64 characters
    hidden: int = 0  # parts that stand for input of unknown length
    structured: bool = False  # there are parts, names or tools, which strict hosts look into
    files: int = 0  # of the hidden parts, how many are files
    stored: bool = False  # some are named that are ours


def plain_bytes(messages: msgspec.Raw) -> int:
    """Return the size of `messages` where each is a text and nothing else; 0: they are to be inspected."""
    try:
        if not _decode_plain(messages):
            return 0
    except msgspec.ValidationError:
        return 0
    raw = bytes(messages)
    return len(raw) if raw.find(b"\\") < 0 else text_bytes(raw)  # one byte is found faster than two


def inspect(raw: bytes) -> Weight:
    """Check `messages` and say what they hold.

    Raises:
        CallerError: OpenAI's 400 for the first thing that is wrong.
    """
    try:
        messages = _decode(raw)
    except msgspec.ValidationError as fault:
        explain(decode_any(raw))
        raise CallerError(f"Invalid 'messages': {fault}", param="messages", code="invalid_type") from fault
    if not messages:
        length("messages", [], 1, 0)
    media: list[Part] = []
    voices, structured = 0, False
    for message in messages:
        content = message.content
        if content is None:
            if message.role != "assistant" or not (message.tool_calls or message.function_call):
                explain(decode_any(raw))
        elif type(content) is list:
            structured = True
            if any(part.type == "text" and part.text is None for part in content):
                explain(decode_any(raw))
            media += [part for part in content if part.type not in SHOWN_PARTS]
        if message.tool_calls is not None or message.tool_call_id is not None or message.name is not None:
            structured = True
        elif message.role in _NEEDS_MORE:
            explain(decode_any(raw))
        voices += message.audio is not None
    weight = Weight(text_bytes(raw), 0, 0, voices, structured)
    return _weigh(weight, media) if media else weight


def kinds_of_parts(raw: bytes) -> set[str]:
    """Return the types of the parts in checked `messages`."""
    lists = (message.content for message in _decode(raw) if type(message.content) is list)
    return {part.type for parts in lists for part in parts}


def _weigh(weight: Weight, media: list[Part]) -> Weight:
    """Take media out of the text's bytes."""
    size, images, audio, hidden = weight.size, weight.images, weight.audio, weight.hidden
    files, stored = 0, False
    for part in media:
        if part.type == "image_url":
            size -= text_bytes(bytes(part.image_url))
            images += 1
        elif part.type == "input_audio":
            size -= text_bytes(bytes(part.input_audio))
            data = _audio_data(part)
            audio, hidden = (audio + len(data), hidden) if data else (audio, hidden + 1)
        else:
            size -= text_bytes(bytes(part.file))
            hidden += 1
            if part.type == "file":
                files += 1
                stored = stored or names_file(bytes(part.file))
    return Weight(size, images, audio, hidden, weight.structured, files, stored)


def _audio_data(part: Part) -> str:
    """Return the base64 text of a part's audio; empty where it lies elsewhere."""
    try:
        data = _decode_audio(part.input_audio).data
    except msgspec.DecodeError:
        return ""
    return "" if "://" in data[:32] else data


def text_bytes(raw: bytes) -> int:
    """Return an upper bound of the UTF-8 bytes of the texts in some JSON.

    Raw JSON is never shorter than its texts; an escape of four hexadecimal digits stands for at most
    three bytes, and is written with six.
    """
    size = len(raw)
    if raw.find(b"\\u") >= 0:  # `in` would raise and catch an error of its own first
        size -= 3 * raw.replace(b"\\\\", b"").count(b"\\u")
    return size


def explain(messages: Json) -> None:
    """Raise OpenAI's 400 for the first fault of `messages`; return when there is none.

    Raises:
        CallerError: naming the path.
    """
    array("messages", messages)
    length("messages", messages, 1, 0)
    for index, message in enumerate(messages):
        _explain_message(f"messages[{index}]", message)


def _explain_message(path: str, message: Json) -> None:
    mapping(path, message)
    required(path, message, "role", text)
    role = message["role"]
    if role not in ROLES:
        raise invalid_value(f"{path}.role", role, ROLES)
    calls = message.get("tool_calls")
    if calls is not None:
        array(f"{path}.tool_calls", calls)
        length(f"{path}.tool_calls", calls, 1, 0)
    if message.get("function_call") is not None:
        mapping(f"{path}.function_call", message["function_call"])
    if message.get("name") is not None:
        text(f"{path}.name", message["name"])
    _explain_content(path, message)
    if role == "tool":
        required(path, message, "tool_call_id", text)
    if role == "function":
        required(path, message, "name", text)


_INSTEAD = ("tool_calls", "function_call", "audio", "refusal")


def _explain_content(path: str, message: Json) -> None:
    """Check the content; an assistant may have called something, or refused, instead."""
    role, content, here = message["role"], message.get("content"), f"{path}.content"
    if type(content) is list:
        for index, part in enumerate(content):
            mapping(f"{here}[{index}]", part)
            required(f"{here}[{index}]", part, "type", text)
            if part["type"] == "text":
                required(f"{here}[{index}]", part, "text", text)
    elif content is not None and type(content) is not str:
        raise invalid_type(here, "one of a string or array of objects", content)
    elif content is None and not _may_lack_content(message):
        if role == "developer":
            required(path, message, "content", _content_type)
        # The path is written with a dot here, as OpenAI does.
        raise CallerError(
            "Invalid value for 'content': expected a string, got null.", param=here.replace("[", ".[", 1)
        )


def _may_lack_content(message: Json) -> bool:
    if message["role"] == "function":
        return "content" in message
    return message["role"] == "assistant" and any(message.get(name) for name in _INSTEAD)


def _content_type(path: str, value: Json) -> None:
    raise invalid_type(path, "one of a string or array of objects", value)
