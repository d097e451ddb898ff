"""A validator of JSON Schema, small and independent of the code that it judges."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any
from uuid import UUID

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
}
_FORMATS: dict[str, Callable[[str], object]] = {
    "email": lambda v: re.fullmatch(r"[^@\s]+@[^@\s]+\.[a-z]+", v),
    "date": date.fromisoformat,
    "date-time": lambda v: datetime.fromisoformat(v).tzinfo,
    "time": lambda v: re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(Z|[+-]\d\d:\d\d)", v),
    "uuid": lambda v: str(UUID(v)) == v,
    "uri": lambda v: re.fullmatch(r"[a-z]+://\S+", v),
    "ipv4": lambda v: re.fullmatch(r"\d+\.\d+\.\d+\.\d+", v),
    "hostname": lambda v: re.fullmatch(r"[a-z0-9.-]+", v),
}


def problems(value: Any, schema: Any, root: Any = None, at: str = "$") -> list[str]:
    """Return where a value breaks its schema; nothing when it conforms."""
    root = schema if root is None else root
    if schema in (True, {}):
        return []
    if schema is False:
        return [f"{at}: nothing is allowed here"]
    found = [text for check in _CHECKS for text in check(value, schema, root, at)]
    if "$ref" in schema:
        there = root
        for step in schema["$ref"].split("/")[1:]:
            there = there[step]
        found += problems(value, there, root, at)
    for part in schema.get("allOf", []):
        found += problems(value, part, root, at)
    for word in ("anyOf", "oneOf"):
        if word in schema and not any(not problems(value, one, root, at) for one in schema[word]):
            found.append(f"{at}: {value!r} fits no branch of {word}")
    return found


def _kind(value: Any, schema: Any, _: Any, at: str) -> list[str]:
    found = []
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(_TYPES[kind](value) for kind in kinds):
            found.append(f"{at}: {value!r} is not {kinds}")
    if "const" in schema and value != schema["const"]:
        found.append(f"{at}: {value!r} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{at}: {value!r} is not one of {schema['enum']}")
    return found


def _number(value: Any, schema: Any, _: Any, at: str) -> list[str]:
    if not _TYPES["number"](value):
        return []
    rules = (
        ("minimum", lambda bound: value >= bound),
        ("maximum", lambda bound: value <= bound),
        ("exclusiveMinimum", lambda bound: value > bound),
        ("exclusiveMaximum", lambda bound: value < bound),
        ("multipleOf", lambda step: math.isclose(value / step, round(value / step), abs_tol=1e-9)),
    )
    return [
        f"{at}: {value!r} breaks {name}"
        for name, holds in rules
        if name in schema and not holds(schema[name])
    ]


def _string(value: Any, schema: Any, _: Any, at: str) -> list[str]:
    if not isinstance(value, str):
        return []
    found = []
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9):
        found.append(f"{at}: the length of {value!r}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{at}: {value!r} does not match {schema['pattern']}")
    if "format" in schema and not _FORMATS[schema["format"]](value):
        found.append(f"{at}: {value!r} is no {schema['format']}")
    return found


def _array(value: Any, schema: Any, root: Any, at: str) -> list[str]:
    if not isinstance(value, list):
        return []
    found = []
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9):
        found.append(f"{at}: {len(value)} items")
    if schema.get("uniqueItems") and any(item in value[:n] for n, item in enumerate(value)):
        found.append(f"{at}: {value!r} has doubles")
    first = schema.get("prefixItems", [])
    for number, item in enumerate(value):
        rule = first[number] if number < len(first) else schema.get("items", True)
        found += problems(item, rule, root, f"{at}[{number}]")
    return found


def _object(value: Any, schema: Any, root: Any, at: str) -> list[str]:
    if not isinstance(value, dict):
        return []
    members = schema.get("properties", {})
    found = [f"{at}: {name} is missing" for name in schema.get("required", []) if name not in value]
    if len(value) < schema.get("minProperties", 0):
        found.append(f"{at}: too few members")
    for name, item in value.items():
        rule = members.get(name, schema.get("additionalProperties", True))
        found += problems(item, rule, root, f"{at}.{name}")
    return found


_CHECKS = (_kind, _number, _string, _array, _object)
