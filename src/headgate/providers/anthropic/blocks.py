"""Turns as Anthropic's messages: blocks of content, tool results first, neighbours of one role joined."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NotBase64
from typing import TYPE_CHECKING, Any
from zlib import crc32

from headgate.errors import CallerError
from headgate.providers.parts import File, Image, Text, unsupported
from headgate.values import Note

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.providers.parts import Part
    from headgate.providers.turns import Turn
    from headgate.values import Call

Block = dict[str, Any]
_NOT_ID = re.compile(r"[^a-zA-Z0-9_-]")
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
SEALED = frozenset({"thinking", "redacted_thinking"})


def system_blocks(turns: Iterable[Turn], call: Call) -> list[Block]:
    """Return all system and developer messages, wherever they stand, as blocks in their order."""
    found: list[Block] = []
    for turn in turns:
        if turn.role != "system":
            continue
        blocks = _content(turn, call, texts_only=True)
        found += _marked(blocks, turn.cache, call)
    return found


def messages(turns: Iterable[Turn], call: Call) -> list[dict[str, Any]]:
    """Return the conversation; neighbours of one role become one message.

    Raises:
        CallerError: a part that Claude does not take where it stands.
    """
    found: list[dict[str, Any]] = []
    for turn in turns:
        if turn.role == "system":
            continue
        if turn.name and turn.role != "tool":
            drop_once(call, "messages[].name")
        role = "assistant" if turn.role == "assistant" else "user"
        blocks = _marked(_blocks(turn, call), turn.cache, call)
        if not blocks:
            continue
        if found and found[-1]["role"] == role:
            found[-1]["content"] += blocks
        else:
            found.append({"role": role, "content": blocks})
    if found and found[-1]["role"] == "assistant":
        _trim(found[-1]["content"])
    return found


def _blocks(turn: Turn, call: Call) -> list[Block]:
    if turn.role == "tool":
        return [_result(turn, call)]
    if turn.role == "user":
        return _content(turn, call)
    blocks = [block for block in turn.sealed if block.get("type") in SEALED]
    blocks += _content(turn, call, texts_only=True)
    for use in turn.calls:
        blocks.append({"type": "tool_use", "id": tool_id(use.id), "name": use.name, "input": use.input()})
    return blocks


def _result(turn: Turn, call: Call) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": tool_id(turn.answers)}
    content = _content(turn, call)
    if content:
        block["content"] = content
    return block


def tool_id(given: str) -> str:
    """Return an id that Anthropic takes: another's ids may hold other characters than its own."""
    if given and not _NOT_ID.search(given):
        return given
    return f"{_NOT_ID.sub('_', given)}_{crc32(given.encode('utf-8', 'replace')):08x}"


def _content(turn: Turn, call: Call, *, texts_only: bool = False) -> list[Block]:
    blocks = []
    for index, part in enumerate(turn.parts):
        path = f"{turn.path}.content[{index}]"
        if texts_only and not isinstance(part, Text):
            raise unsupported(f"{path}.type")
        block = _block(path, part)
        if block is not None:
            blocks += _marked([block], part.cache, call)
    return blocks


def _block(path: str, part: Part) -> Block | None:
    match part:
        case Text(text):
            return {"type": "text", "text": text} if text.strip() else None  # a blank one is a 400
        case Image(url=url) if url:
            return {"type": "image", "source": {"type": "url", "url": url}}
        case Image(media_type=media_type, data=data):
            media_type = "image/jpeg" if media_type == "image/jpg" else media_type
            if media_type not in _IMAGES:
                raise unsupported(f"{path}.image_url")
            return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
        case File():
            return _document(f"{path}.file", part)
        case _:
            raise unsupported(f"{path}.type")


def _document(path: str, file: File) -> Block:
    source: Block
    if file.url:
        source = {"type": "url", "url": file.url}
    elif file.file_id.startswith("file_"):  # Anthropic's own; others' begin otherwise
        source = {"type": "file", "file_id": file.file_id}
    elif file.media_type == "application/pdf":
        source = {"type": "base64", "media_type": file.media_type, "data": file.data}
    elif file.media_type.startswith("text/"):
        source = {
            "type": "text",
            "media_type": "text/plain",
            "data": _decoded(f"{path}.file_data", file.data),
        }
    else:
        raise unsupported(path)
    document: Block = {"type": "document", "source": source}
    if file.name:
        document["title"] = file.name
    return document


def _decoded(path: str, data: str) -> str:
    try:
        return b64decode(data).decode()
    except (NotBase64, UnicodeDecodeError) as fault:
        raise CallerError(f"Invalid '{path}': not UTF-8 text.", param=path, code="invalid_value") from fault


def _marked(blocks: list[Block], cache: Any, call: Call) -> list[Block]:
    """Put a cache mark on the last of some blocks."""
    if blocks and cache is not None:
        blocks[-1]["cache_control"] = cache_control(cache, call)
    return blocks


def cache_control(given: Any, call: Call) -> Any:
    """Return a cache mark as it goes out: for five minutes, for an hour has a price that no book here has."""
    if isinstance(given, dict) and given.get("ttl") not in {None, "5m"}:
        drop_once(call, "cache_control.ttl")
        return {name: value for name, value in given.items() if name != "ttl"}
    return given


def drop_once(call: Call, name: str) -> None:
    """Note that something is left out, wherever and however often it stands."""
    note = Note("x-headgate-dropped", name)
    if note not in call.notes:
        call.notes.append(note)


def _trim(blocks: list[Block]) -> None:
    """Cut white space at the end of a beginning that the model shall go on with: it is a 400."""
    if blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()
