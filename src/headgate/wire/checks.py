"""Checks of one request member, with OpenAI's own sentences and codes for what is wrong.

A check takes the member's path and its JSON and returns the decoded value. Sources: OpenAI's recorded
400 bodies (codes `invalid_type`, `decimal_below_min_value`, `integer_above_max_value`,
`invalid_value`, `missing_required_parameter`, `unknown_parameter`, `empty_array`, ...).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from headgate.errors import CallerError

Json: TypeAlias = Any  # what JSON decodes to
Check: TypeAlias = Callable[[str, Json], None]

_NAMES: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    list: "an array",
    dict: "an object",
    type(None): "null",
}

decode = msgspec.json.Decoder().decode
_WHOLE: Final = re.compile(r"-?[0-9]+")
_LONGEST: Final = 18  # characters of a number that is read as it is;
_MOST: Final = 10**18  # a longer one is this: more than anything may be


def decode_any(raw: bytes | msgspec.Raw) -> Json:
    """Decode JSON whose syntax is known to be sound; a number that no machine holds is infinite."""
    try:
        return decode(raw)
    except msgspec.DecodeError:
        return json.loads(bytes(raw), parse_int=float)


def whole(given: str) -> int | None:
    """Return the whole number that a field of a form or of a query is; None: it is none."""
    if _WHOLE.fullmatch(given) is None:
        return None
    return int(given) if len(given) <= _LONGEST else _MOST * (-1 if given[0] == "-" else 1)


def invalid_type(path: str, expected: str, got: Json) -> CallerError:
    """Return the error for a value of the wrong type."""
    return CallerError(
        f"Invalid type for '{path}': expected {expected}, but got {_describe(got)} instead.",
        param=path,
        code="invalid_type",
    )


def missing(path: str) -> CallerError:
    """Return the error for a member that must be there."""
    return CallerError(
        f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter"
    )


def unknown(path: str) -> CallerError:
    """Return the error for a member that nobody knows."""
    return CallerError(f"Unknown parameter: '{path}'.", param=path, code="unknown_parameter")


def invalid_value(path: str, got: str, allowed: Sequence[str]) -> CallerError:
    """Return the error for a value outside a closed set."""
    shown = got if len(got) <= 64 else got[:64] + "..."
    return CallerError(
        f"Invalid value: '{shown}'. Supported values are: {enumerated(allowed, 'and')}.",
        param=path,
        code="invalid_value",
    )


def enumerated(names: Sequence[str], word: str) -> str:
    """Write names as OpenAI does: `'a' or 'b'`, `'a', 'b', or 'c'`."""
    quoted = [f"'{name}'" for name in names]
    if len(quoted) < 3:
        return f" {word} ".join(quoted)
    return f"{', '.join(quoted[:-1])}, {word} {quoted[-1]}"


def _describe(value: Json) -> str:
    if isinstance(value, (list, dict)) and not value:
        return "an empty array" if isinstance(value, list) else "an empty object"
    return _NAMES[type(value)]


def anything(path: str, value: Json) -> None:
    """Accept any JSON: the provider decides."""


def text(path: str, value: Json) -> None:
    """Accept a string."""
    if type(value) is not str:
        raise invalid_type(path, "a string", value)


def boolean(path: str, value: Json) -> None:
    """Accept true or false."""
    if type(value) is not bool:
        raise invalid_type(path, "a boolean", value)


def mapping(path: str, value: Json) -> None:
    """Accept an object."""
    if type(value) is not dict:
        raise invalid_type(path, "an object", value)


def array(path: str, value: Json, expected: str = "an array of objects") -> None:
    """Accept an array."""
    if type(value) is not list:
        raise invalid_type(path, expected, value)


def short_text(limit: int) -> Check:
    """Accept a string of at most `limit` characters."""

    def check(path: str, value: Json) -> None:
        text(path, value)
        if len(value) > limit:
            raise CallerError(
                f"Invalid '{path}': string too long. Expected a string with maximum length {limit}, "
                f"but got a string with length {len(value)} instead.",
                param=path,
                code="string_above_max_length",
            )

    return check


def metadata(path: str, value: Json) -> None:
    """Accept at most 16 short names, each with a text."""
    if type(value) is not dict:
        raise invalid_type(path, "a metadata object", value)
    if len(value) > 16:
        raise CallerError(
            f"Invalid '{path}': too many properties. Expected an object with at most 16 properties, "
            f"but got an object with {len(value)} properties instead.",
            param=path,
            code="object_above_max_properties",
        )
    for name, entry in value.items():
        if len(name) > 64:
            raise CallerError(
                f"Invalid property name in '{path}': '{name[:3]}...{name[-3:]}' is too long. Expected a "
                f"string with maximum length 64, but got a string with length {len(name)} instead.",
                param=f"{path}.{name[:512]}",
                code="property_name_above_max_length",
            )
        short_text(512)(f"{path}.{name}", entry)


def _bounds(path: str, value: float, low: float, high: float, kind: str) -> None:
    if value < low:
        side, sign, limit = "below minimum", ">=", low
    elif value > high:
        side, sign, limit = "above maximum", "<=", high
    else:
        return
    raise CallerError(
        f"Invalid '{path}': {kind} {side} value. Expected a value {sign} {limit}, but got {value} instead.",
        param=path,
        code=f"{kind}_{'below_min' if sign == '>=' else 'above_max'}_value",
    )


def number(low: float, high: float) -> Check:
    """Accept a number between `low` and `high`."""

    def check(path: str, value: Json) -> None:
        kind = type(value)
        if kind is not float and kind is not int:
            raise invalid_type(path, "a decimal", value)
        _bounds(path, value, low, high, "decimal")

    return check


def integer(low: int, high: int) -> Check:
    """Accept an integer between `low` and `high` (also written 1.0, as JSON allows)."""

    def check(path: str, value: Json) -> None:
        if type(value) is not int and not (type(value) is float and value.is_integer()):
            raise invalid_type(path, "an integer", value)
        _bounds(path, int(value), low, high, "integer")

    return check


def one_of(*allowed: str) -> Check:
    """Accept one of a closed set of strings."""

    def check(path: str, value: Json) -> None:
        if type(value) is not str:
            raise invalid_type(path, f"one of {enumerated(allowed, 'or')}", value)
        if value not in allowed:
            raise invalid_value(path, value, allowed)

    return check


def list_of(item: Check, *, least: int = 0, most: int = 0, expected: str = "an array of objects") -> Check:
    """Accept an array of checked items, `least` to `most` of them (0: no upper limit)."""

    def check(path: str, value: Json) -> None:
        array(path, value, expected)
        length(path, value, least, most)
        for index, entry in enumerate(value):
            item(f"{path}[{index}]", entry)

    return check


def length(path: str, value: Sequence[Json], least: int, most: int) -> None:
    """Refuse an array that is too short or too long.

    Raises:
        CallerError: `empty_array`, `array_above_max_length`.
    """
    if len(value) < least:
        raise CallerError(
            f"Invalid '{path}': empty array. Expected an array with minimum length {least}, "
            f"but got an empty array instead.",
            param=path,
            code="empty_array",
        )
    if most and len(value) > most:
        raise CallerError(
            f"Invalid '{path}': array too long. Expected an array with maximum length {most}, "
            f"but got an array with length {len(value)} instead.",
            param=path,
            code="array_above_max_length",
        )


def required(path: str, value: Json, name: str, check: Check) -> None:
    """Check a member that an object must have.

    Raises:
        CallerError: `missing_required_parameter`, or what `check` finds.
    """
    if name not in value:
        raise missing(f"{path}.{name}")
    check(f"{path}.{name}", value[name])


def text_or(other: Check, expected: str, kinds: tuple[type, ...]) -> Check:
    """Accept a string, or what `other` accepts when the value is of one of `kinds`."""

    def check(path: str, value: Json) -> None:
        if type(value) is str:
            return
        if type(value) not in kinds:
            raise invalid_type(path, expected, value)
        other(path, value)

    return check
