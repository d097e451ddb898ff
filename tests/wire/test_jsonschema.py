"""The validator of answers: against a reference implementation, and against schemas that are traps."""

import time

import jsonschema_rs
import pytest
from hypothesis import given, settings, strategies as st

from headgate.wire.jsonschema import Schema, SchemaError
from headgate.wire.patterns import safe_pattern

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "pattern": "^[A-Z][a-z]*$"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2, "uniqueItems": True},
        "boss": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"name": "Ann", "age": 3}, ""),
        ({"name": "Ann", "age": 3.0, "boss": {"name": "Bob", "age": 1}}, ""),
        ({"name": "Ann"}, "$ lacks the required member 'age'"),
        ({"name": "Ann", "age": True}, "$.age must be of type integer"),
        ({"name": "ann", "age": 3}, "$.name must match"),
        ({"name": "Ann\n", "age": 3}, "$.name must match"),
        ({"name": "Ann", "age": -1}, "$.age must be at least 0"),
        ({"name": "Ann", "age": 3, "x": 1}, "$.x must not be there"),
        ({"name": "Ann", "age": 3, "tags": ["a", "c"]}, "$.tags[1] must be one of"),
        ({"name": "Ann", "age": 3, "tags": ["a", "a"]}, "$.tags has an item twice"),
        ({"name": "Ann", "age": 3, "boss": {"name": "B"}}, "$.boss fits none of anyOf"),
        ([], "$ must be of type object"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(value, said):
    problems = Schema(PERSON).problems(value)
    assert bool(problems) is bool(said), problems
    assert not said or problems[0].startswith(said)


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"$ref": "http://127.0.0.1/x"}, "$ref"),
        ({"$ref": "#/nowhere"}, "$ref"),
        ({"properties": {"a": {"type": "objct"}}}, "properties.a.type"),
        ({"properties": {"a": 5}}, "properties.a"),
        ({"anyOf": [{"pattern": "(a+)+$"}]}, "anyOf[0].pattern"),
        ({"pattern": "(?=a)"}, "pattern"),
        ({"pattern": "(a)\\1"}, "pattern"),
        ({"pattern": "["}, "pattern"),
        ({"unevaluatedProperties": False}, "unevaluatedProperties"),
        ({"minimum": "1"}, "minimum"),
        ({"multipleOf": 0}, "multipleOf"),
        ({"type": []}, "type"),
        ([], ""),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused_with_its_place(schema, path):
    with pytest.raises(SchemaError) as caught:
        Schema(schema)
    assert caught.value.path == path


@pytest.mark.parametrize(
    "pattern", ["^[a-z]+$", "^\\d{3}-\\d{4}$", "^(red|green)$", "a{2,3}b?", "^(ab)*$", "x{", "^[^]]$"]
)
def test_usual_patterns_pass(pattern):
    assert safe_pattern(pattern).power <= 2


@pytest.mark.parametrize(
    "pattern", ["(a+)+", "(a|a)*", "(a?){5}", "((ab)*c)+", "(?P<x>a)", "(?i)a", "(x{1,9})*"]
)
def test_patterns_that_may_take_forever_are_refused(pattern):
    with pytest.raises(ValueError, match=r".+"):
        safe_pattern(pattern)


def test_a_text_that_is_too_long_for_its_pattern_is_not_passed():
    began = time.monotonic()
    assert Schema({"pattern": "a*a*a*b"}).problems("a" * 5_000)[0].endswith("too long for its pattern")
    assert Schema({"pattern": "^a*b"}).problems("a" * 5_000)
    assert time.monotonic() - began < 5


def test_a_schema_that_goes_round_in_circles_ends():
    for schema in ({"$ref": "#"}, {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, {"not": {"$ref": "#"}}):
        Schema(schema).problems([])  # comes back
    deep = []
    for _ in range(500):
        deep = [deep]
    assert Schema({"items": {"$ref": "#"}}).problems(deep)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(-9, 9, width=16)
    | st.sampled_from(["", "a", "ab", "abc"])
)
VALUES = st.recursive(
    LEAVES,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from("abc"), v, max_size=3),
    max_leaves=8,
)
SIMPLE = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            ["object", "array", "string", "integer", "number", "null", "boolean", ["string", "null"]]
        ),
        "enum": st.lists(LEAVES, min_size=1, max_size=3),
        "const": LEAVES,
        "minimum": st.integers(-5, 5),
        "exclusiveMaximum": st.integers(-5, 5),
        "multipleOf": st.sampled_from([1, 2, 3]),
        "minLength": st.integers(0, 3),
        "maxItems": st.integers(0, 3),
        "minProperties": st.integers(0, 2),
        "uniqueItems": st.booleans(),
        "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
        "pattern": st.sampled_from(["^a", "b$", "^[ab]*$"]),
    },
)
SCHEMAS = st.recursive(
    SIMPLE | st.booleans(),
    lambda s: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from("abc"), s, max_size=2),
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b|c"]), s, max_size=1),
            "additionalProperties": s,
            "propertyNames": s,
            "items": s,
            "prefixItems": st.lists(s, min_size=1, max_size=2),
            "contains": s,
            "allOf": st.lists(s, min_size=1, max_size=2),
            "anyOf": st.lists(s, min_size=1, max_size=2),
            "oneOf": st.lists(s, min_size=1, max_size=2),
            "not": s,
            "if": s,
            "then": s,
            "else": s,
        },
    ),
    max_leaves=6,
)


@given(SCHEMAS, VALUES)
@settings(max_examples=400, deadline=None)
def test_it_says_what_another_implementation_says(schema, value):
    other = jsonschema_rs.validator_for(schema) if schema is not False else None
    valid = other.is_valid(value) if other is not None else False
    assert bool(Schema(schema).problems(value)) is not valid
