"""Images: PNGs of the asked size, one answer or a stream with partial images, with the usage of the model."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.transport.simulator.pictures import MOST_PIXELS, png
from headgate.transport.simulator.reply import STREAM_TYPE, Reply, json_reply
from headgate.wire.uploads import FILES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.transport.simulator.counting import ModelTokens
    from headgate.transport.simulator.reply import Stamp
    from headgate.transport.simulator.wishes import Wish

_BY_PIECE: Final = "dall-e-"  # models whose answers have no usage, and an address by default
_PER_MEGAPIXEL: Final = {"low": 272, "medium": 1056, "high": 4160}
_PER_PARTIAL: Final = 100
_PER_GIVEN: Final = 194
_PICTURES: Final = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"RIFF")


class ImagesAsked(msgspec.Struct):
    """The body of `/images/generations`."""

    model: str
    prompt: str = ""
    n: int | None = None
    size: str | None = None
    quality: str | None = None
    response_format: str | None = None
    output_format: str | None = None
    stream: bool | None = None
    partial_images: int | None = None
    given: int = 0  # images that are to be edited


async def images_reply(members: dict[str, Any], _wish: Wish, _tokens: ModelTokens, stamp: Stamp) -> Reply:
    """Return the answer to a body of `/images/generations`, `edits` or `variations`.

    Raises:
        ValueError: a size or a format that cannot be made here, or the name of a file that is not here.
    """
    files = members.pop(FILES, [])
    for part in files:
        if not part.data.startswith(_PICTURES):
            raise ValueError(f"the file {part.filename[:60]!r} is no PNG, JPEG or WebP")
    for reference in (*(members.get("images") or ()), members.get("mask") or {}):
        if reference.get("file_id"):  # ours are put in place before
            raise ValueError(f"it has no file {reference['file_id'][:60]!r}")
    asked = msgspec.convert(members, ImagesAsked)
    asked.given = len(files) or len(members.get("images") or ())
    if asked.output_format not in {None, "png"}:
        raise ValueError(f"it makes PNGs; output_format {asked.output_format} needs a real model")
    size = asked.size if asked.size not in {None, "auto"} else "1024x1024"
    assert size is not None
    width, height = map(int, size.split("x"))
    if width * height > MOST_PIXELS:
        raise ValueError(f"a size of {size} is too large; the most is 4096x4096")
    if asked.stream:
        return Reply(200, STREAM_TYPE, _events(asked, stamp, (width, height)), streamed=True)
    data = []
    for number in range(int(asked.n or 1)):
        drawn = await asyncio.to_thread(png, stamp.seed + bytes([number]), width, height)
        data.append(_image(asked, drawn))
    return json_reply({"created": stamp.created, "data": data, **_facts(asked, (width, height))})


def _image(asked: ImagesAsked, drawn: bytes) -> dict[str, Any]:
    packed = b64encode(drawn).decode()
    if not asked.model.startswith(_BY_PIECE):
        return {"b64_json": packed}
    if asked.response_format == "b64_json":
        return {"b64_json": packed, "revised_prompt": asked.prompt}
    return {"url": f"data:image/png;base64,{packed}", "revised_prompt": asked.prompt}


def _facts(asked: ImagesAsked, size: tuple[int, int], partials: int = 0) -> dict[str, Any]:
    """Return what an answer says besides its images."""
    if asked.model.startswith(_BY_PIECE):
        return {}
    quality = asked.quality if asked.quality in _PER_MEGAPIXEL else "medium"
    text = max(1, len(asked.prompt.encode()) // 4)
    given = text + _PER_GIVEN * asked.given
    made = -(-size[0] * size[1] * _PER_MEGAPIXEL[str(quality)] // 2**20) * int(asked.n or 1)
    made += _PER_PARTIAL * partials
    return {
        "background": "opaque",
        "output_format": "png",
        "quality": quality,
        "size": f"{size[0]}x{size[1]}",
        "usage": {
            "input_tokens": given,
            "input_tokens_details": {"image_tokens": given - text, "text_tokens": text},
            "output_tokens": made,
            "output_tokens_details": {"image_tokens": made, "text_tokens": 0},
            "total_tokens": given + made,
        },
    }


def _events(asked: ImagesAsked, stamp: Stamp, size: tuple[int, int]) -> Iterator[bytes]:
    deed = "image_edit" if asked.given else "image_generation"
    partials = int(asked.partial_images or 0)
    facts = _facts(asked, size, partials)
    usage = facts.pop("usage", None)
    common = {"created_at": stamp.created, **facts}
    seed = stamp.seed + b"\0"
    for number in range(partials):
        drawn = b64encode(png(seed, *size, shown=2 + 2 * number)).decode()
        yield _event(
            {"type": f"{deed}.partial_image", **common, "b64_json": drawn, "partial_image_index": number}
        )
    whole = {"type": f"{deed}.completed", **common, "b64_json": b64encode(png(seed, *size)).decode()}
    yield _event(whole if usage is None else {**whole, "usage": usage})


def _event(body: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (body["type"].encode(), msgspec.json.encode(body))
