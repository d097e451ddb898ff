"""The members of requests that make no text: moderations, images, speech. Source: OpenAI's API description.

`MEASURES` note on a parsed call what it can use at most, in each unit that somebody bills it by.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from headgate.wire.checks import (
    Check,
    Json,
    boolean,
    integer,
    invalid_type,
    invalid_value,
    length,
    mapping,
    number,
    one_of,
    required,
    short_text,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.values import Call


def _moderated(path: str, value: Json) -> None:
    """Accept a string, strings, or parts of text and images."""
    if type(value) is str:
        return
    if type(value) is not list:
        raise invalid_type(path, "one of a string or array", value)
    length(path, value, 1, 2048)
    for index, entry in enumerate(value):
        if type(value[0]) is str:
            text(f"{path}[{index}]", entry)
        else:
            _part(f"{path}[{index}]", entry)


def _part(path: str, value: Json) -> None:
    mapping(path, value)
    required(path, value, "type", one_of("text", "image_url"))
    if value["type"] == "text":
        required(path, value, "text", text)
    else:
        required(path, value, "image_url", mapping)
        required(f"{path}.image_url", value["image_url"], "url", text)


MODERATIONS: Mapping[str, Check] = {"model": text, "input": _moderated}

_SIZE = re.compile(r"[1-9]\d{1,3}x[1-9]\d{1,3}")
_SIZES: Final = (
    "auto",
    "1024x1024",
    "1536x1024",
    "1024x1536",
    "256x256",
    "512x512",
    "1792x1024",
    "1024x1792",
)
_SQUARE: Final = "1024x1024"
_MEGAPIXEL: Final = 1024 * 1024
_LARGEST: Final = 8 * _MEGAPIXEL  # what `auto` may come to
_PER_MEGAPIXEL: Final = {"low": 272, "medium": 1056}  # output tokens; OpenAI's table for its own sizes
_AT_BEST: Final = 4160
_PARTIAL: Final = 100  # output tokens of a partial image
_THOUGHT: Final = 2_048  # output tokens of text that may come with images


def _size(path: str, value: Json) -> None:
    text(path, value)
    if value != "auto" and _SIZE.fullmatch(value) is None:
        raise invalid_value(path, value, _SIZES)


IMAGES: Mapping[str, Check] = {
    "model": text,
    "prompt": text,
    "n": integer(1, 10),
    "size": _size,
    "quality": one_of("standard", "hd", "low", "medium", "high", "auto"),
    "response_format": one_of("url", "b64_json"),
    "output_format": one_of("png", "jpeg", "webp"),
    "output_compression": integer(0, 100),
    "stream": boolean,
    "partial_images": integer(0, 3),
    "moderation": one_of("low", "auto"),
    "background": one_of("transparent", "opaque", "auto"),
    "style": one_of("vivid", "natural"),
    "user": text,
}


def measure_images(call: Call, values: Mapping[str, Json]) -> None:
    """Bound the images that a call makes: by size and quality, and by the tokens that each can be."""
    size, quality = values.get("size") or _SQUARE, values.get("quality") or "auto"
    graded = size if quality in {"auto", "standard"} else f"{size}:{quality}"
    pixels = _LARGEST
    if size != "auto":
        width, height = size.split("x")
        pixels = int(width) * int(height)
    tokens = -(-pixels * _PER_MEGAPIXEL.get(quality, _AT_BEST) // _MEGAPIXEL)
    call.max_output = tokens + _PARTIAL * int(values.get("partial_images") or 0) + _THOUGHT
    call.measures = ((f"image:{graded}", call.n),), (("output_image", call.max_output * call.n),)


def _voice(path: str, value: Json) -> None:
    """Accept a voice's name, or an object with its id."""
    if type(value) is dict:
        required(path, value, "id", text)
    elif type(value) is not str:
        raise invalid_type(path, "one of a string or object", value)


SPEECH: Mapping[str, Check] = {
    "model": text,
    "input": short_text(4096),
    "voice": _voice,
    "instructions": short_text(4096),
    "response_format": one_of("mp3", "opus", "aac", "flac", "wav", "pcm"),
    "speed": number(0.25, 4),
    "stream_format": one_of("sse", "audio"),
}
_TOKENS_PER_S: Final = 25  # of speech; OpenAI's models make about 21
_S_PER_CHARACTER: Final = 0.5  # the slowest that anything is read at usual speed


def measure_speech(call: Call, values: Mapping[str, Json]) -> None:
    """Bound what is said: by its characters, and by the tokens that its sound can be."""
    said = str(values["input"])
    seconds = (len(said) * _S_PER_CHARACTER + 2) / min(float(values.get("speed") or 1), 1)
    call.max_output = int(seconds * _TOKENS_PER_S)
    call.measures = ((("character", len(said)),), ())
    if values.get("stream_format") == "sse":
        call.stream = True
    else:
        call.answer_type, call.flows = b"", True


MEASURES: Mapping[str, Callable[[Call, Mapping[str, Json]], None]] = {
    "images": measure_images,
    "speech": measure_speech,
}
