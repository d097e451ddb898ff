"""The parts of a message as values: what codecs of other wires read instead of OpenAI's JSON.

Wire facts: OpenAI's API description of `messages[].content`; the extra member `cache_control` marks a
part that the provider should cache, and is kept as it came.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import msgspec

from headgate.errors import CallerError
from headgate.wire.checks import Json, invalid_type, invalid_value, mapping, required, text

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w-]+=[^;,]*)*;base64,", re.ASCII | re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}", re.ASCII)


class Text(msgspec.Struct, frozen=True, gc=False):
    """A text, also a refusal said earlier."""

    text: str
    cache: Json = None  # `cache_control`, as it came


class Image(msgspec.Struct, frozen=True, gc=False):
    """An image: either base64 `data` of a `media_type`, or a `url` (http or https)."""

    url: str = ""
    media_type: str = ""
    data: str = ""
    detail: str = ""
    cache: Json = None


class Audio(msgspec.Struct, frozen=True, gc=False):
    """A recording: base64 `data` of a `format` (wav, mp3)."""

    data: str
    format: str
    cache: Json = None


class File(msgspec.Struct, frozen=True, gc=False):
    """A file: base64 `data` of a `media_type`, a `url`, or the id of a stored one."""

    name: str = ""
    media_type: str = ""
    data: str = ""
    url: str = ""
    file_id: str = ""
    cache: Json = None


Part: TypeAlias = Text | Image | Audio | File


def unsupported(path: str) -> CallerError:
    """Return OpenAI's refusal of a parameter, or of a part, that a model cannot take."""
    return CallerError(
        f"Unsupported parameter: '{path}' is not supported with this model.",
        param=path,
        code="unsupported_parameter",
    )


def read_part(path: str, part: Json) -> Part:
    """Return a part of a content.

    Raises:
        CallerError: it is of no known kind, or lacks something.
    """
    mapping(path, part)
    kind, cache = part.get("type"), part.get("cache_control")
    match kind:
        case "text":
            return Text(_member(path, part, "text"), cache)
        case "refusal":
            return Text(_member(path, part, "refusal"), cache)
        case "image_url":
            return _image(f"{path}.image_url", _inside(path, part, kind), cache)
        case "input_audio":
            return _audio(f"{path}.input_audio", _inside(path, part, kind), cache)
        case "file":
            return _file(f"{path}.file", _inside(path, part, kind), cache)
        case _:
            raise unsupported(f"{path}.type")


def read_content(path: str, content: Json) -> tuple[Part, ...]:
    """Return the parts of a content: null has none, a text is one (none when empty)."""
    if content is None or content == "":
        return ()
    if isinstance(content, str):
        return (Text(content),)
    if not isinstance(content, list):
        raise invalid_type(path, "one of a string or array of objects", content)
    return tuple(read_part(f"{path}[{index}]", part) for index, part in enumerate(content))


def plain_text(parts: tuple[Part, ...], path: str) -> str:
    """Return the text of parts where a provider takes nothing else.

    Raises:
        CallerError: one of them is not text.
    """
    texts = []
    for index, part in enumerate(parts):
        if not isinstance(part, Text):
            raise unsupported(f"{path}[{index}].type")
        texts.append(part.text)
    return "".join(texts)


def _inside(path: str, part: dict[str, Any], name: str) -> dict[str, Any]:
    required(path, part, name, mapping)
    inside: dict[str, Any] = part[name]
    return inside


def _member(path: str, part: dict[str, Any], name: str) -> str:
    required(path, part, name, text)
    value: str = part[name]
    return value


def _image(path: str, image: dict[str, Any], cache: Json) -> Image:
    url = _member(path, image, "url")
    detail = image.get("detail") or ""
    if url.startswith(("http://", "https://")):
        return Image(url=url, detail=detail, cache=cache)
    media_type, data = read_data_url(f"{path}.url", url)
    return Image(media_type=media_type, data=data, detail=detail, cache=cache)


def read_data_url(path: str, url: str) -> tuple[str, str]:
    """Return the media type, in lower case, and the base64 text of a data URL.

    Raises:
        CallerError: it is none.
    """
    head = _DATA_URL.match(url)
    if head is None:
        raise invalid_value(path, url, ("https://...", "data:...;base64,..."))
    return (head[1] or "").lower(), _base64(path, url[head.end() :])


def _base64(path: str, data: str) -> str:
    if not data or not _BASE64.fullmatch(data):
        raise CallerError(f"Invalid '{path}': expected base64 data.", param=path, code="invalid_value")
    return data


def _audio(path: str, audio: dict[str, Any], cache: Json) -> Audio:
    data = _base64(f"{path}.data", _member(path, audio, "data"))
    return Audio(data, _member(path, audio, "format"), cache)


def _file(path: str, file: dict[str, Any], cache: Json) -> File:
    name = file.get("filename") or ""
    file_id, data = file.get("file_id"), file.get("file_data")
    if isinstance(data, str):
        if data.startswith(("http://", "https://")):
            return File(name=name, url=data, cache=cache)
        if data.startswith("data:"):
            media_type, encoded = read_data_url(f"{path}.file_data", data)
        else:
            media_type, encoded = "", _base64(f"{path}.file_data", data)
        return File(name=name, media_type=media_type or _by_name(name), data=encoded, cache=cache)
    if isinstance(file_id, str):
        return File(name=name, file_id=file_id, cache=cache)
    raise CallerError(
        f"Missing required parameter: '{path}.file_data'.",
        param=f"{path}.file_data",
        code="missing_required_parameter",
    )


def _by_name(name: str) -> str:
    """Return the media type of a file by the end of its name; a PDF is what files usually are."""
    return "text/plain" if name.lower().endswith((".txt", ".md", ".csv")) else "application/pdf"
