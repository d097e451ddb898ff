"""Avro as a provider writes it: files of records, for tests. Apache's specification of 1.12."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

Schema = Any
SYNC = bytes(range(16))


def number(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def text(value: bytes) -> bytes:
    return number(len(value)) + value


_PLAIN: dict[str, Callable[[Any], bytes]] = {
    "null": lambda _: b"",
    "boolean": lambda value: bytes([value]),
    "int": number,
    "long": number,
    "float": lambda value: struct.pack("<f", value),
    "double": lambda value: struct.pack("<d", value),
    "string": lambda value: text(value.encode()),
}


def encoded(schema: Schema, value: Any) -> bytes:
    if isinstance(schema, list):
        at = schema.index("null") if value is None else next(n for n, s in enumerate(schema) if s != "null")
        return number(at) + encoded(schema[at], value)
    if isinstance(schema, str):
        return _PLAIN[schema](value)
    if schema["type"] == "record":
        return b"".join(encoded(field["type"], value.get(field["name"])) for field in schema["fields"])
    assert schema["type"] == "array"
    items = b"".join(encoded(schema["items"], each) for each in value)
    return (number(len(value)) + items if value else b"") + b"\0"


def written(schema: Schema, rows: list[Any], codec: str = "null", at_once: int = 7) -> bytes:
    """Return a file of records."""
    meta = {"avro.schema": json.dumps(schema).encode(), "avro.codec": codec.encode()}
    pairs = b"".join(text(name.encode()) + text(value) for name, value in meta.items())
    out = b"Obj\x01" + number(len(meta)) + pairs + b"\0" + SYNC
    for at in range(0, len(rows), at_once):
        piece = rows[at : at + at_once]
        data = b"".join(encoded(schema, row) for row in piece)
        if codec == "deflate":
            data = zlib.compress(data)[2:-4]
        out += number(len(piece)) + text(data) + SYNC
    return out
