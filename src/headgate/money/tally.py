"""What is to be counted in a request: its texts, and adders for what is not text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.wire.messages import SHOWN_PARTS
from headgate.wire.requests import is_own_tool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Each is one token in both encodings.
ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

_PER_CALL = 3  # the reply is primed
_PER_MESSAGE = 3
_PER_NAME = 1

# Estimates and upper bounds of what has no public formula.
_IMAGE_LOW = 85
_IMAGE_TYPICAL = 1_000
IMAGE_BOUND: Final = 50_000  # above what any known model counts for one image
HIDDEN: Final = 1_000_000  # what the request does not show: a file, a video, what a search finds
AUDIO_CHARS_PER_TOKEN: Final = 16  # of base64: above 32 tokens a second of the poorest MP3
AUDIO_LEAST: Final = 64
_TOOL = (8, 64)  # framing of one tool, call or schema, beside its JSON
_AUDIO_CHARS_USUAL = 6_400  # 0.1 s of 16-bit WAV
_PAST_AUDIO = (1_000, 16_384)  # an earlier spoken answer, known by its id only
FILE_USUAL: Final = 5_000
_FILE = (FILE_USUAL, HIDDEN)

_COUNTED = frozenset({"role", "content", "name", "tool_calls", "function_call", "audio"})
_SILENT = frozenset({"tool_call_id", "annotations"})


@dataclass(slots=True)
class Tally:
    """The parts of an input.

    `texts` become tokens as they stand. `shapes` are JSON that the provider renders in a way of
    its own. `tokens` and `bound` are what the rest adds to the estimate and to the upper bound.
    """

    texts: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    tokens: int = 0
    bound: int = 0
    items: int = 0  # messages or inputs
    exact: bool = True  # the texts and `tokens` are all there is

    def add(self, tokens: int) -> None:
        """Add tokens that are surely counted."""
        self.tokens += tokens
        self.bound += tokens

    def guess(self, tokens: int, bound: int) -> None:
        """Add tokens that are only estimated."""
        self.tokens += tokens
        self.bound += bound
        self.exact = False

    def shape(self, value: Any) -> None:
        """Add a JSON value that the provider renders in its own way."""
        self.shapes.append(msgspec.json.encode(value).decode())
        self.guess(*_TOOL)


def utf8_length(text: str) -> int:
    """Return how many bytes a text is in UTF-8, lone surrogates included."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def tally_chat(messages: Sequence[Mapping[str, Any]], members: Mapping[str, Any], image_bound: int) -> Tally:
    """Return what is to be counted in a conversation and its tools and schemas."""
    tally = Tally(items=len(messages))
    tally.add(_PER_CALL)
    for message in messages:
        _add_message(tally, message, image_bound)
    for tools in (members.get("tools"), members.get("functions")):
        for tool in tools if isinstance(tools, list) else ():
            tally.shape(tool)
            if isinstance(tool, dict) and not is_own_tool(tool):
                tally.guess(*_FILE)  # it runs at the provider, and what it brings is read as input
    wanted = members.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type", "text") != "text":
        tally.shape(wanted)
    if isinstance(members.get("tool_choice"), dict):
        tally.shape(members["tool_choice"])
    if members.get("web_search_options") is not None:
        tally.guess(*_FILE)  # what is found is read as input
    return tally


def tally_inputs(given: Any, suffix: str | None = None) -> Tally:
    """Return what is to be counted in a prompt or an embedding input.

    Args:
        given: a text, texts, token ids, or lists of them; None is the empty document.
        suffix: of a completion.
    """
    tally = Tally()
    if given is None:
        given = [[0]]
    elif not isinstance(given, list) or _are_ids(given):
        given = [given]
    tally.items = len(given)
    for item in given:
        if isinstance(item, str):
            tally.texts.append(item)
        elif isinstance(item, list):
            tally.add(len(item))
        else:
            tally.shape(item)
    if suffix:
        tally.texts.append(suffix)
        tally.guess(*_TOOL)
    return tally


def _are_ids(given: list[Any]) -> bool:
    return bool(given) and isinstance(given[0], (int, float))


def _add_message(tally: Tally, message: Mapping[str, Any], image_bound: int) -> None:
    tally.add(_PER_MESSAGE)
    role = message.get("role")
    if role in ROLES:
        tally.add(1)
    elif isinstance(role, str):
        tally.texts.append(role)
    if role in {"tool", "function"}:
        tally.guess(*_TOOL)
    name = message.get("name")
    if isinstance(name, str):
        tally.add(_PER_NAME)
        tally.texts.append(name)
    _add_content(tally, message.get("content"), image_bound)
    calls = message.get("tool_calls")
    for call in (message.get("function_call"), *(calls if isinstance(calls, list) else ())):
        if call is not None:
            tally.shape(call)
    if message.get("audio") is not None:
        tally.guess(*_PAST_AUDIO)
    for key in message.keys() - _COUNTED - _SILENT:
        if message[key]:
            tally.shape(message[key])  # a refusal, or reasoning that a provider wants back


def _add_content(tally: Tally, content: Any, image_bound: int) -> None:
    if isinstance(content, str):
        tally.texts.append(content)
    elif isinstance(content, list):
        for part in content:
            _add_part(tally, part, image_bound)
        if len(content) > 1:
            tally.exact = False  # how parts are joined is not known
    elif content is not None:
        tally.shape(content)


def _add_part(tally: Tally, part: Any, image_bound: int) -> None:
    match part:
        case {"type": "text", "text": str(text)}:
            tally.texts.append(text)
        case {"type": "image_url"}:
            image = part.get("image_url")
            detail = image.get("detail") if isinstance(image, dict) else None
            most = image_bound or IMAGE_BOUND
            tally.guess(_IMAGE_LOW if detail == "low" else min(_IMAGE_TYPICAL, most), most)
        case {"type": "input_audio", "input_audio": {"data": str(data)}} if "://" not in data[:32]:
            tally.guess(len(data) // _AUDIO_CHARS_USUAL + 1, len(data) // AUDIO_CHARS_PER_TOKEN + AUDIO_LEAST)
        case {"type": "file", "file": {"file_data": str(data)}}:
            tally.guess(min(len(data) // 8 + 1, HIDDEN), HIDDEN)  # its pages are counted, not its bytes
        case {"type": str(kind)} if kind in SHOWN_PARTS:
            tally.shape(part)
        case _:
            tally.shape(part)
            tally.guess(*_FILE)
