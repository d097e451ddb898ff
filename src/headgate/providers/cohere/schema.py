"""A JSON schema in the words that Cohere keeps to, and what they cannot say.

Facts: Cohere's guide to structured outputs. What it does not know is an error there, so it is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNKNOWN: Final = frozenset(
    {
        *("allOf", "not", "if", "then", "else", "dependentSchemas", "dependentRequired", "contains"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minItems", "maxItems", "uniqueItems", "minContains", "maxContains", "minLength", "maxLength"),
        *("minProperties", "maxProperties", "patternProperties", "propertyNames"),
    }
)
_FORMATS: Final = frozenset({"date-time", "uuid", "date", "time"})
_ANCHORS: Final = ("^", "$", "?=", "?!")
_MAPS: Final = frozenset({"properties", "$defs", "definitions"})
_LISTS: Final = frozenset({"anyOf", "prefixItems"})
_SCHEMAS: Final = frozenset({"items", "additionalProperties"})


def clean(schema: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a schema without what Cohere does not know, and the keywords that are lost, sorted."""
    lost: set[str] = set()
    return _cleaned(schema, lost), sorted(lost)


def _cleaned(schema: Mapping[str, Any], lost: set[str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _UNKNOWN or not _is_known(name, value):
            lost.add(name)
        elif name == "oneOf" and isinstance(value, list):  # of which at least one is what can be said
            lost.add(name)
            made["anyOf"] = _each(value, lost)
        elif name in _MAPS and isinstance(value, dict):
            made[name] = dict(zip(value, _each(list(value.values()), lost), strict=True))
        elif name in _LISTS and isinstance(value, list):
            made[name] = _each(value, lost)
        else:
            made[name] = _each([value], lost)[0] if name in _SCHEMAS else value
    return made


def _is_known(name: str, value: Any) -> bool:
    if name == "pattern":
        return not any(anchor in str(value) for anchor in _ANCHORS)
    return name != "format" or value in _FORMATS


def _each(values: list[Any], lost: set[str]) -> list[Any]:
    return [_cleaned(value, lost) if isinstance(value, dict) else value for value in values]
