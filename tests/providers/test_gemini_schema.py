"""JSON schemas in Gemini's words: what is kept, what is said otherwise, what is lost and reported."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.providers.gemini.schema import clean

STRING = {"type": "string"}
REF = {"$ref": "#/$defs/A"}

SAID: dict[str, tuple[Any, Any]] = {
    "what it knows": (
        {
            "type": "object",
            "title": "T",
            "description": "D",
            "properties": {
                "a": {"type": ["string", "null"]},
                "b": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["a"],
            "additionalProperties": False,
            "propertyOrdering": ["b", "a"],
        },
        ...,
    ),
    "lists": (
        {"type": "array", "items": STRING, "prefixItems": [STRING], "minItems": 1, "maxItems": 2},
        ...,
    ),
    "references": ({"$defs": {"A": STRING}, "type": "object", "properties": {"a": REF}}, ...),
    "what says nothing": (
        {
            "$schema": "x",
            "$comment": "c",
            "examples": [1],
            "default": 2,
            "deprecated": True,
            "x-own": 1,
            **STRING,
        },
        STRING,
    ),
    "constraints that constrain nothing": ({**STRING, "minLength": 0, "uniqueItems": False}, STRING),
    "an older draft's definitions": (
        {"definitions": {"A": STRING}, "items": {"$ref": "#/definitions/A"}},
        {"$defs": {"A": STRING}, "items": REF},
    ),
    "a reference with neighbours": (
        {"$ref": "#/$defs/A", "description": "D", "$defs": {"A": STRING}},
        {"description": "D", "$defs": {"A": STRING}, "anyOf": [REF]},
    ),
    "one part of all": ({"allOf": [REF], "description": "D"}, {"description": "D", "anyOf": [REF]}),
    "parts of all that agree": (
        {
            "allOf": [
                {"type": "object", "properties": {"a": STRING}, "required": ["a"]},
                {"properties": {"b": STRING}, "required": ["b"], "title": "T"},
            ]
        },
        {"type": "object", "properties": {"a": STRING, "b": STRING}, "required": ["a", "b"], "title": "T"},
    ),
    "one of some": ({"oneOf": [STRING, {"type": "null"}]}, {"anyOf": [STRING, {"type": "null"}]}),
    "a constant": ({"const": "a"}, {"enum": ["a"]}),
    "null": ({"const": None}, {"type": "null"}),
    "an enumeration with null": (
        {"enum": ["a", 1, None], "description": "D"},
        {"anyOf": [{"enum": ["a", 1]}, {"type": "null"}], "description": "D"},
    ),
    "both truths": ({"type": "boolean", "enum": [True, False]}, {"type": "boolean"}),
    "open bounds of integers": (
        {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10},
        {"type": "integer", "minimum": 1, "maximum": 9},
    ),
    "an older draft's tuple": ({"items": [STRING, True]}, {"prefixItems": [STRING, {}]}),
    "OpenAPI's null": ({"type": "STRING", "nullable": True}, {"type": ["string", "null"]}),
    "others of a kind": (
        {"additionalProperties": {**STRING, "default": "x"}},
        {"additionalProperties": STRING},
    ),
    "anything": (True, {}),
    "a time": ({**STRING, "format": "date-time"}, ...),
    "a property named like a keyword": ({"properties": {"pattern": STRING, "not": STRING}}, ...),
}

LOST: dict[str, tuple[Any, Any, list[str]]] = {
    "a pattern": ({**STRING, "pattern": "a"}, STRING, ["pattern"]),
    "lengths": ({**STRING, "minLength": 1, "maxLength": 2}, STRING, ["maxLength", "minLength"]),
    "an open bound of a number": (
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "number"},
        ["exclusiveMinimum"],
    ),
    "a format": ({**STRING, "format": "uuid"}, STRING, ["format"]),
    "not": ({"not": STRING}, {}, ["not"]),
    "if": ({"if": STRING, "then": STRING}, {}, ["if"]),
    "nothing": ({"properties": {"a": False}}, {"properties": {"a": {}}}, ["false"]),
    "one truth": ({"const": True}, {}, ["enum"]),
    "objects": ({"enum": [{"a": 1}]}, {}, ["enum"]),
    "parts that contradict": ({"type": "object", "allOf": [STRING]}, {"type": "object"}, ["allOf"]),
    "two choices": ({"anyOf": [STRING], "oneOf": [STRING]}, {"anyOf": [STRING]}, ["oneOf"]),
    "a reference and a choice": ({**REF, "anyOf": [STRING]}, {"anyOf": [STRING]}, ["$ref"]),
    "deep inside": (
        {"type": "array", "items": {"anyOf": [{"properties": {"a": {**STRING, "pattern": "x"}}}]}},
        {"type": "array", "items": {"anyOf": [{"properties": {"a": STRING}}]}},
        ["pattern"],
    ),
}


@pytest.mark.parametrize(("given", "said"), SAID.values(), ids=SAID)
def test_what_can_be_said_is_said(given: Any, said: Any) -> None:
    assert clean(given) == (given if said is ... else said, [])


@pytest.mark.parametrize(("given", "said", "lost"), LOST.values(), ids=LOST)
def test_what_cannot_be_said_is_reported(given: Any, said: Any, lost: list[str]) -> None:
    assert clean(given) == (said, lost)


@pytest.mark.parametrize(
    "odd",
    [
        {"type": 3},
        {"type": ["odd"]},
        {"properties": 3, "$defs": [], "items": None, "anyOf": {}, "enum": {}, "allOf": {}, "$ref": 4},
        {"prefixItems": 1, "required": None},
        [],
        None,
        "x",
    ],
)
def test_what_is_no_schema_does_not_crash(odd: Any) -> None:
    cleaned, _ = clean(odd)
    assert isinstance(cleaned, dict)
