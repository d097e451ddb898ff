"""Embeddings: unit vectors in which texts that share words or characters lie close.

A text becomes hashed features (words, their trigrams, Han characters and pairs of them), each of which
adds to a few dimensions: two among the first 64, two among the first 256, two among the first 1,024, two
anywhere. So a shortened vector (`dimensions`) still tells texts apart.
"""

from __future__ import annotations

import asyncio
import math
import re
import sys
from array import array
from base64 import b64encode
from collections import Counter
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from headgate.transport.simulator.asked import EmbeddingsAsked
from headgate.transport.simulator.reply import JSON_TYPE, Reply, json_reply
from headgate.transport.simulator.usage import embeddings_usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.transport.simulator.counting import ModelTokens
    from headgate.transport.simulator.reply import Stamp
    from headgate.transport.simulator.wishes import Wish

_DIMENSIONS = {"text-embedding-3-large": 3072, "text-embedding-3-small": 1536, "text-embedding-ada-002": 1536}
_DEFAULT_DIMENSIONS = 1536
_WORD = re.compile(r"[a-z0-9]+(?:['’][a-z]+)?|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af_]+")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_FREQUENT = (
    "a an the of to in on at is are was were be it and or for with as by that this i you he she we they "
    "的 了 是 在 我 你 他 和"
)
_COMMON = frozenset(_FREQUENT.split())
_LONG = 4_000  # characters; above, words are enough and trigrams would only cost time
_MUTED = 0.2  # weight of common words
_NOISE = 3e-7  # no dimension is zero, as in real vectors, and no two texts share all of theirs


def vector(text: str, dimensions: int, kept: int | None = None) -> list[float]:
    """Return the unit vector of a text.

    Args:
        text: any text; the empty one has a vector too.
        dimensions: of the model.
        kept: how many of them to keep, as the request's `dimensions` asks.
    """
    start = crc32(text.encode("utf-8", "surrogatepass"))
    sums = [(((at + start) * 0x9E3779B1 & 0xFFFF) - 0x8000) * _NOISE for at in range(dimensions)]
    for feature, weight in _features(text).items():
        seed = crc32(feature.encode("utf-8", "surrogatepass"))
        for reach in (64, 256, 1024, dimensions):
            for _ in range(2):
                seed = (seed * 0x5851F42D4C957F2D + 0x14057B7EF767814F) & 0xFFFFFFFFFFFFFFFF
                place = (seed >> 33) % min(reach, dimensions)
                sums[place] += weight if seed >> 63 else -weight
    if kept is not None:
        del sums[kept:]
    length = math.sqrt(math.fsum(value * value for value in sums)) or 1.0
    # Nine decimals are more than a float32 holds at this size, so both encodings say the same.
    return [round(value / length, 9) for value in sums]


def _features(text: str) -> dict[str, float]:
    text = text.lower()
    counts: Counter[str] = Counter()
    for word in _WORD.findall(text):
        counts["w" + word] += 1
        if len(text) <= _LONG and len(word) > 3:
            counts.update("t" + word[at : at + 3] for at in range(len(word) - 2))
    for run in _CJK.findall(text):
        counts.update("c" + char for char in run)
        counts.update("w" + run[at : at + 2] for at in range(len(run) - 1))
    weights = {"w": 1.0, "t": 0.35, "c": 0.6}
    return {
        feature: weights[feature[0]] * math.sqrt(count) * (_MUTED if feature[1:] in _COMMON else 1.0)
        for feature, count in counts.items()
    }


async def embeddings_reply(members: dict[str, Any], wish: Wish, tokens: ModelTokens, stamp: Stamp) -> Reply:
    """Return the answer to a decoded body of `/embeddings`.

    Raises:
        msgspec.ValidationError: a member is not of its type.
        ValueError: a token id that does not exist.
    """
    asked = msgspec.convert(members, EmbeddingsAsked)
    given = await tokens.of_request("embeddings", members)
    texts = await tokens.texts_of(asked.input)
    full = tokens.dimensions or _DIMENSIONS.get(asked.model, _DEFAULT_DIMENSIONS)
    base64 = asked.encoding_format == "base64"
    rows: list[bytes] = []
    for index, text in enumerate(texts):
        numbers = vector(text, full, asked.dimensions)
        value: object = _packed(numbers) if base64 else numbers
        rows.append(msgspec.json.encode({"object": "embedding", "index": index, "embedding": value}))
        if index:
            await asyncio.sleep(0)  # a vector takes about a millisecond; others wait for the loop
    usage = embeddings_usage(given, wish)
    if len(rows) == 1:
        body: dict[str, Any] = {
            "object": "list",
            "data": [msgspec.Raw(rows[0])],
            "model": stamp.model,
            "usage": usage,
        }
        if usage is None:
            del body["usage"]
        return json_reply(body)
    return Reply(200, JSON_TYPE, _parts(rows, stamp.model, usage))


def _parts(rows: list[bytes], model: str, usage: dict[str, Any] | None) -> Iterator[bytes]:
    """Yield the body row by row, so that a long list is never copied whole."""
    yield b'{"object":"list","data":['
    for number, row in enumerate(rows):
        yield b"," + row if number else row
    tail = {"model": model} if usage is None else {"model": model, "usage": usage}
    yield b"]," + msgspec.json.encode(tail)[1:]


def _packed(numbers: list[float]) -> str:
    """Return the numbers as base64 of little-endian float32."""
    floats = array("f", numbers)
    if sys.byteorder == "big":
        floats.byteswap()
    return b64encode(floats.tobytes()).decode()
