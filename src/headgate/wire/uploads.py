"""Requests that bring files: edits and variations of images, transcripts and translations of speech.

They come as forms; their fields are read as the members of a JSON body are. Source: OpenAI's API description.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.errors import CallerError, MediaTypeRefused
from headgate.values import Media
from headgate.wire.checks import (
    Check,
    Json,
    boolean,
    list_of,
    mapping,
    missing,
    number,
    one_of,
    text,
)
from headgate.wire.forms import forget, is_form, parts_of
from headgate.wire.media import IMAGES, measure_images
from headgate.wire.references import is_ours, picture_reference
from headgate.wire.sound import longest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from mmap import mmap

    from headgate.values import Call
    from headgate.wire.forms import Part

_encode = msgspec.json.encode
FILES: Final = "\0files"  # where the simulator finds them; no field has this name
TEXTS: Final = frozenset({"text", "srt", "vtt"})  # answers that are no JSON
_WHOLE: Final = frozenset({"n", "output_compression", "partial_images"})
_LISTS: Final = frozenset(
    {
        "timestamp_granularities",
        "include",
        "known_speaker_names",
        "known_speaker_references",
        "languages",
        "keywords",
    }
)
_MAY_BE_JSON: Final = frozenset({"image_edits"})
_LONGEST_FIELD: Final = 256 * 1024
_IMAGE_TOKENS: Final = 50_000  # more than any model makes of an image
_TOKENS_PER_S: Final = 50  # of sound that is listened to; OpenAI's models count about 17
_MOST_TEXT: Final = 4_096  # tokens of a transcript, and more where it is long
_texts: Final = list_of(text, expected="an array")


def _chunking(path: str, value: Json) -> None:
    if type(value) is not str:
        mapping(path, value)


EDITS: Mapping[str, Check] = {
    **{name: check for name, check in IMAGES.items() if name != "style"},
    "images": list_of(picture_reference, least=1, most=16),  # of a JSON body
    "mask": picture_reference,
    "input_fidelity": one_of("high", "low"),
}
VARIATIONS: Mapping[str, Check] = {
    name: IMAGES[name] for name in ("model", "n", "size", "response_format", "user")
}
TRANSLATIONS: Mapping[str, Check] = {
    "model": text,
    "prompt": text,
    "response_format": one_of("json", "text", "srt", "verbose_json", "vtt"),
    "temperature": number(0, 1),
}
TRANSCRIPTIONS: Mapping[str, Check] = {
    **TRANSLATIONS,
    "language": text,
    "languages": _texts,
    "keywords": _texts,
    "response_format": one_of("json", "text", "srt", "verbose_json", "vtt", "diarized_json"),
    "include": _texts,
    "timestamp_granularities": list_of(one_of("word", "segment"), expected="an array"),
    "stream": boolean,
    "chunking_strategy": _chunking,
    "known_speaker_names": _texts,
    "known_speaker_references": _texts,
}


def take_form(content_type: bytes, body: bytes | mmap, call: Call) -> bytes | None:
    """Take the files of a form, and return its fields as a JSON body; None where the body is one.

    Raises:
        MediaTypeRefused: it is neither.
        CallerError: it is no form, or lacks its file.
    """
    if not is_form(content_type):
        if call.operation in _MAY_BE_JSON and content_type.lower().startswith(b"application/json"):
            return None
        raise MediaTypeRefused("Send a form: `Content-Type: multipart/form-data`, with the file in it.")
    parts = parts_of(content_type, body)
    forget(body)
    wanted = "file" if call.operation in {"transcriptions", "translations"} else "image"
    allowed = {wanted, "mask"} if call.operation == "image_edits" else {wanted}
    files = tuple(part for part in parts if part.filename)
    if not any(_bare(part.name) == wanted for part in files):
        raise missing(wanted)
    for part in files:
        if _bare(part.name) not in allowed:
            raise CallerError(
                f"Unknown parameter: '{part.name[:100]}'.", param=part.name[:100], code="unknown_parameter"
            )
    if len(files) > (17 if call.operation == "image_edits" else 1):
        raise CallerError(f"The form has {len(files)} files, which is too many here.", param=wanted)
    call.files = files
    return fields_of(parts)


def _bare(name: str) -> str:
    return name.partition("[")[0]


def fields_of(parts: Iterable[Part]) -> bytes:
    """Return the fields of a form as a JSON body.

    Raises:
        CallerError: one is longer than any is.
    """
    members: dict[str, Any] = {}
    for part in parts:
        if part.filename:
            continue
        if len(part.data) > _LONGEST_FIELD:
            raise CallerError(f"Invalid '{part.name[:100]}': it is too long.", param=part.name[:100])
        name, value = _bare(part.name), part.text()
        if name in _LISTS or part.name.endswith("[]"):
            members.setdefault(name, []).append(value)
        elif part.name != name:  # chunking_strategy[type]
            held = members.setdefault(name, {})
            if isinstance(held, dict):
                held[part.name[len(name) + 1 :].rstrip("]")] = value
        else:
            members[name] = _typed(name, value)
    return _encode(members)


def _typed(name: str, value: str) -> Json:
    """Return what the text of a field stands for; what it cannot be is left for its check to refuse."""
    try:
        if name in _WHOLE:
            return int(value)
        if name == "temperature":
            return float(value)
    except ValueError:
        return value
    if name == "stream":
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), value)
    if name == "chunking_strategy" and value.startswith("{"):
        return msgspec.json.decode(value)
    return value


def measure_pictures(call: Call, values: Mapping[str, Json]) -> None:
    """Bound the images that come and those that are made."""
    measure_images(call, values)
    given = _referred(values) if call.files is None else []
    count = len(given) if call.files is None else len(call.files)
    call.media = Media(images=count, stored=any(is_ours(each.get("file_id")) for each in given))
    assert call.measures is not None
    pieces, tokens = call.measures
    call.measures = pieces, (*tokens, ("input_image", _IMAGE_TOKENS * count))


def _referred(values: Mapping[str, Json]) -> list[Json]:
    """Return the references to images, and to a mask, of a JSON body. Raises `CallerError`."""
    images = values.get("images")
    if images is None:
        raise missing("images")
    mask = values.get("mask")
    return [*images, mask] if mask is not None else images


def measure_sound(call: Call, values: Mapping[str, Json]) -> None:
    """Bound a sound by its length, in seconds and in tokens."""
    assert call.files is not None
    seconds = math.ceil(longest_of(call.files[0].data)) + 1
    call.input_bytes += _TOKENS_PER_S * seconds
    call.max_output = _MOST_TEXT + 8 * seconds
    call.measures = (("second", seconds),), ()
    if values.get("response_format") in TEXTS:
        call.answer_type = b""


UPLOADS: Mapping[str, Callable[[Call, Mapping[str, Json]], None]] = {
    "image_edits": measure_pictures,
    "image_variations": measure_pictures,
    "transcriptions": measure_sound,
    "translations": measure_sound,
}
