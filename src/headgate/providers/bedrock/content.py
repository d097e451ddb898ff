"""Turns as Bedrock's messages: blocks of content, results of tools in a user's message, one role joined.

Bedrock refuses calls and results where a request offers no tool, which OpenAI does not: then they are said as
text, so that nothing is lost and no call can come.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from zlib import crc32

from headgate.errors import CallerError
from headgate.providers.anthropic.blocks import cache_control, drop_once
from headgate.providers.parts import File, Image, Text, unsupported
from headgate.values import Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headgate.providers.bedrock.abilities import Abilities
    from headgate.providers.parts import Part
    from headgate.providers.turns import Turn
    from headgate.values import Call

Block = dict[str, Any]
CACHE_POINT: Block = {"cachePoint": {"type": "default"}}
_NOT_ID = re.compile(r"[^a-zA-Z0-9_.:-]")
_NOT_NAME = re.compile(r"[^a-zA-Z0-9\s()\[\]-]+")
_MOST_ID = 64
_IMAGES = {"image/jpeg": "jpeg", "image/jpg": "jpeg", "image/png": "png", "image/gif": "gif"}
_IMAGES |= {"image/webp": "webp"}
_OFFICE = "application/vnd.openxmlformats-officedocument."
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    f"{_OFFICE}wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    f"{_OFFICE}spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_FORMATS = frozenset(_DOCUMENTS.values())
_STANDARD = str.maketrans("-_", "+/")


class Conversation:
    """Write the turns of one request.

    Args:
        call: its notes say what was left out or changed.
        able: what the model takes.
        flat: no tool is offered.
    """

    def __init__(self, call: Call, able: Abilities, *, flat: bool) -> None:
        self._call = call
        self._able = able
        self._flat = flat
        self._names: set[str] = set()  # of documents

    def system(self, turns: Iterable[Turn]) -> list[Block]:
        """Return all system and developer messages, wherever they stand, in their order."""
        found: list[Block] = []
        for turn in turns:
            if turn.role == "system":
                found += self._marked(list(self._content(turn, texts_only=True)), turn.cache)
        return found

    def messages(self, turns: Iterable[Turn]) -> list[dict[str, Any]]:
        """Return the conversation; neighbours of one role become one message.

        Raises:
            CallerError: a part that Bedrock does not take where it stands.
        """
        found: list[dict[str, Any]] = []
        for turn in turns:
            if turn.role == "system":
                continue
            if turn.name and turn.role != "tool":
                drop_once(self._call, "messages[].name")
            role = "assistant" if turn.role == "assistant" else "user"
            blocks = self._marked(list(self._blocks(turn)), turn.cache)
            if blocks and found and found[-1]["role"] == role:
                found[-1]["content"] += blocks
            elif blocks:
                found.append({"role": role, "content": blocks})
        if found and found[-1]["role"] == "assistant":
            _trim(found[-1]["content"])
        return found

    def _blocks(self, turn: Turn) -> Iterator[Block]:
        if turn.role == "user":
            yield from self._content(turn)
        elif self._flat and (turn.calls or turn.role == "tool"):
            yield from self._as_text(turn)
        elif turn.role == "tool":
            yield from self._result(turn)
        else:
            yield from self._thoughts(turn)
            yield from self._content(turn, texts_only=True)
            for use in turn.calls:
                yield {"toolUse": {"toolUseId": tool_id(use.id), "name": use.name, "input": use.input()}}

    def _result(self, turn: Turn) -> Iterator[Block]:
        """Yield a result; marks for the cache stand behind it, for inside is no place."""
        blocks = list(self._content(turn))
        content = [block for block in blocks if block is not CACHE_POINT]
        yield {"toolResult": {"toolUseId": tool_id(turn.answers), "content": content}}
        if len(content) < len(blocks):
            yield CACHE_POINT

    def _as_text(self, turn: Turn) -> Iterator[Block]:
        """Yield a turn with calls, or a result, as text; without thoughts, which stand before calls."""
        note = Note("x-headgate-changed", "messages[].tool_calls=text")
        if note not in self._call.notes:
            self._call.notes.append(note)
        if turn.role == "tool":
            yield {"text": f"[result of {turn.answered_name or 'a tool'}]"}
            yield from self._content(turn)
            return
        yield from self._content(turn, texts_only=True)
        for use in turn.calls:
            yield {"text": f"[called {use.name} with {use.arguments or '{}'}]"}

    def _thoughts(self, turn: Turn) -> Iterator[Block]:
        """Yield what an assistant thought, with its seal; what has none was never the model's own."""
        for block in turn.sealed:
            match block:
                case {"type": "thinking", "signature": str(signature)} if signature and self._able.claude:
                    text = block.get("thinking")
                    inside = {"text": text if isinstance(text, str) else "", "signature": signature}
                    yield {"reasoningContent": {"reasoningText": inside}}
                case {"type": "redacted_thinking", "data": str(data)} if data:
                    yield {"reasoningContent": {"redactedContent": data}}

    def _content(self, turn: Turn, *, texts_only: bool = False) -> Iterator[Block]:
        for index, part in enumerate(turn.parts):
            path = f"{turn.path}.content[{index}]"
            if texts_only and not isinstance(part, Text):
                raise unsupported(f"{path}.type")
            block = self._block(path, part)
            if block is not None:
                yield from self._marked([block], part.cache)

    def _block(self, path: str, part: Part) -> Block | None:
        match part:
            case Text(text):
                return {"text": text} if text.strip() else None  # a blank one is a 400
            case Image(url=url) if url:
                raise CallerError(
                    f"Unsupported parameter: '{path}.image_url.url' must hold the image itself with this "
                    "model, as a data: URL; it fetches nothing.",
                    param=f"{path}.image_url.url",
                    code="unsupported_parameter",
                )
            case Image(media_type=media_type, data=data):
                if media_type not in _IMAGES:
                    raise unsupported(f"{path}.image_url")
                return {"image": {"format": _IMAGES[media_type], "source": {"bytes": _base64(data)}}}
            case File(data=data) if data:
                return self._document(f"{path}.file", part)
            case File():
                raise unsupported(f"{path}.file")
            case _:
                raise unsupported(f"{path}.type")

    def _document(self, path: str, file: File) -> Block:
        stem, _, ending = file.name.rpartition(".")
        kind = ending.lower() if ending.lower() in _FORMATS else _DOCUMENTS.get(file.media_type, "")
        if not kind:
            raise unsupported(path)
        plain = " ".join(_NOT_NAME.sub(" ", stem or ending).split())[:180] or "document"
        name, number = plain, 1
        while name in self._names:  # two of one name are a 400
            number += 1
            name = f"{plain} ({number})"
        self._names.add(name)
        return {"document": {"format": kind, "name": name, "source": {"bytes": _base64(file.data)}}}

    def _marked(self, blocks: list[Block], cache: Any) -> list[Block]:
        """Put a cache point behind some blocks, where one was asked for."""
        if blocks and cache is not None:
            if self._able.caches:
                mark(blocks, cache, self._call)
            else:
                drop_once(self._call, "cache_control")
        return blocks


def mark(blocks: list[Block], given: Any, call: Call) -> None:
    """Say that a cache ends behind some blocks: for five minutes, as `cache_control` says why."""
    cache_control(given, call)
    if blocks[-1] is not CACHE_POINT:
        blocks.append(CACHE_POINT)


def tool_id(given: str) -> str:
    """Return an id that Bedrock takes: another's ids may be longer, or hold other characters."""
    if given and len(given) <= _MOST_ID and not _NOT_ID.search(given):
        return given
    return f"{_NOT_ID.sub('_', given)[:48]}_{crc32(given.encode('utf-8', 'replace')):08x}"


def _base64(data: str) -> str:
    return data.translate(_STANDARD) + "=" * (-len(data) % 4)


def _trim(blocks: list[Block]) -> None:
    """Cut white space at the end of a beginning that the model shall go on with: it is a 400."""
    if "text" in blocks[-1]:
        blocks[-1] = {"text": blocks[-1]["text"].rstrip()}
