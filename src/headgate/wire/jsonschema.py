"""JSON Schema, for answers: what in a value is not as a caller's schema wants it. Pure, bounded in time.

Drafts 7 and 2020-12 as far as one schema by itself can say them: references within it (`#/$defs/...`),
all types, combinations, objects, arrays, numbers, texts, and the formats that OpenAI enforces. A keyword that
would constrain and is not read here is refused when the schema is read, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, TypeAlias

from headgate.wire.patterns import safe_pattern

Json: TypeAlias = Any
Path: TypeAlias = str
Check: TypeAlias = Callable[["Run", Json, dict[str, Json], Path], None]

MOST_PROBLEMS: Final = 8
_MOST_STEPS: Final = 200_000
_DEEPEST: Final = 100
_NOT_READ: Final = frozenset(
    {
        *("$dynamicRef", "$recursiveRef", "unevaluatedProperties", "unevaluatedItems"),
        *("additionalItems", "dependentSchemas", "dependencies"),
    }
)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]{1,255}(?:\.[^@\s.]{1,255}){0,20}")
_HOSTNAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,126}")


class SchemaError(ValueError):
    """A schema that cannot be enforced here.

    Args:
        path: where in it.
        why: what is wrong.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}" if path else why)
        self.path = path


class Schema:
    """A schema that has been read.

    Raises:
        SchemaError: it is none, or says what is not read here.
    """

    def __init__(self, root: Json) -> None:
        self.root = root
        self._seen = 0
        self._read(root, "", 0)

    def problems(self, value: Json) -> list[str]:
        """Return what is wrong with a value, at most `MOST_PROBLEMS` sentences; none: nothing is."""
        run = Run(self.root)
        run.check(value, self.root, "$")
        return run.problems

    def _read(self, schema: Json, path: Path, depth: int) -> None:
        if isinstance(schema, bool):
            return
        if not isinstance(schema, dict):
            raise SchemaError(path, "a schema is an object, true or false")
        self._seen += 1
        if depth > _DEEPEST or self._seen > 5_000:
            raise SchemaError(path, "the schema is too deep or too large")
        for name, told in schema.items():
            where = f"{path}.{name}" if path else name
            _check_keyword(name, told, where)
            for label, inner in _inner(name, told):
                self._read(inner, f"{where}{label}", depth + 1)
            self._read_texts(name, told, where)

    def _read_texts(self, name: str, told: Json, where: Path) -> None:
        try:
            if name == "pattern":
                safe_pattern(told)
            elif name == "patternProperties":
                for pattern in told:
                    safe_pattern(pattern)
            elif name == "$ref":
                _resolve(self.root, told)
        except (ValueError, LookupError) as fault:
            raise SchemaError(where, f"{fault}") from fault


class Run:
    """One value held against one schema."""

    def __init__(self, root: Json) -> None:
        self.root = root
        self.problems: list[str] = []
        self._steps = 0
        self._depth = 0

    def check(self, value: Json, schema: Json, path: Path) -> None:
        """Note what is wrong with a value."""
        if schema is True or len(self.problems) >= MOST_PROBLEMS:
            return
        if schema is False:
            self.note(path, "must not be there")
            return
        self._steps += 1
        self._depth += 1
        if self._steps > _MOST_STEPS or self._depth > _DEEPEST:
            self.note(path, "cannot be checked: the schema goes round in circles or the value is too large")
        else:
            for name in schema:
                check = _CHECKS.get(name)
                if check is not None:
                    check(self, value, schema, path)
        self._depth -= 1

    def note(self, path: Path, why: str) -> None:
        """Note a problem."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(f"{path} {why}")

    def trial(self, value: Json, schema: Json, path: Path) -> list[str]:
        """Return what is wrong with a value by another schema, without noting it."""
        noted, self.problems = self.problems, []
        self.check(value, schema, path)
        found, self.problems = self.problems, noted
        return found


def same(one: Json, other: Json) -> bool:
    """Say whether two values are equal as JSON: true is not 1, and 1.0 is 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and isinstance(one, str) is isinstance(other, str)


def _check_keyword(name: str, told: Json, where: Path) -> None:
    """Look at what a keyword is given.

    Raises:
        SchemaError: it is not read here, or its value is none of its kind.
    """
    if name in _NOT_READ:
        raise SchemaError(where, "this keyword is not enforced here")
    expected = _SHAPES.get(name)
    if expected is not None and not isinstance(told, expected):
        raise SchemaError(where, "its value has the wrong type")
    if name in _NUMERIC and (isinstance(told, bool) or (name == "multipleOf" and told <= 0)):
        raise SchemaError(where, "its value is not a number that it can have")
    if name == "type":
        for kind in [told] if isinstance(told, str) else told or [None]:
            if not isinstance(kind, str) or kind not in _TYPES:
                raise SchemaError(where, f"{kind!r} is no type")


def _inner(name: str, told: Json) -> Iterable[tuple[str, Json]]:
    """Return the schemas inside a keyword, with what leads to each."""
    if name in _ONE or (name == "items" and not isinstance(told, list)):
        return [("", told)]
    if name in _LISTED or name == "items":
        return [(f"[{index}]", inner) for index, inner in enumerate(told)]
    if name in _NAMED:
        return [(f".{key}", inner) for key, inner in told.items()]
    return ()


def _resolve(root: Json, ref: str) -> Json:
    """Return what a reference within a schema means.

    Raises:
        ValueError: it leads out of the schema.
        LookupError: there is nothing.
    """
    if ref != "#" and not ref.startswith("#/"):
        raise ValueError(f"the reference {ref!r} leads out of the schema")
    there = root
    for step in ref.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        try:
            there = there[int(name)] if isinstance(there, list) else there[name]
        except (KeyError, IndexError, TypeError, ValueError):
            raise LookupError(f"the reference {ref!r} leads to nothing") from None
    if isinstance(there, (dict, bool)):
        return there
    raise LookupError(f"the reference {ref!r} leads to no schema")


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: Final[Mapping[str, Callable[[Json], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: _is_number(value) and value == value // 1,
    "number": _is_number,
}


def _type(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    told = schema["type"]
    kinds = [told] if isinstance(told, str) else told
    if not any(_TYPES[kind](value) for kind in kinds):
        run.note(path, f"must be of type {' or '.join(kinds)}")


def _enum(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    if not any(same(value, allowed) for allowed in schema["enum"]):
        run.note(path, f"must be one of {str(schema['enum'])[:200]}")


def _const(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    if not same(value, schema["const"]):
        run.note(path, f"must be {str(schema['const'])[:200]}")


def _ref(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    run.check(value, _resolve(run.root, schema["$ref"]), path)


def _all_of(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    for part in schema["allOf"]:
        run.check(value, part, path)


def _any_of(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    tried = []
    for part in schema["anyOf"]:
        found = run.trial(value, part, path)
        if not found:
            return
        tried.append(found[0])
    run.note(path, f"fits none of anyOf: {'; '.join(tried[:4])}")


def _one_of(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    fitting = sum(not run.trial(value, part, path) for part in schema["oneOf"])
    if fitting != 1:
        run.note(path, f"must fit exactly one of oneOf, and fits {fitting}")


def _not(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    if not run.trial(value, schema["not"], path):
        run.note(path, "must not fit what `not` says")


def _if(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    branch = "else" if run.trial(value, schema["if"], path) else "then"
    run.check(value, schema.get(branch, True), path)


def _properties(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    if isinstance(value, dict):
        for name, inner in schema["properties"].items():
            if name in value:
                run.check(value[name], inner, f"{path}.{name}")


def _pattern_properties(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    for source, inner in schema["patternProperties"].items() if isinstance(value, dict) else ():
        for name in value:
            if safe_pattern(source).matches(name) is not False:
                run.check(value[name], inner, f"{path}.{name}")


def _additional(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    patterns = [safe_pattern(source) for source in schema.get("patternProperties", ())]
    for name in value if isinstance(value, dict) else ():
        if name not in schema.get("properties", ()) and not any(p.matches(name) for p in patterns):
            run.check(value[name], schema["additionalProperties"], f"{path}.{name}")


def _property_names(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    for name in value if isinstance(value, dict) else ():
        run.check(name, schema["propertyNames"], f"{path} has the member {name!r}, which")


def _required(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    for name in schema["required"] if isinstance(value, dict) else ():
        if name not in value:
            run.note(path, f"lacks the required member {name!r}")


def _dependent(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    for name, others in schema["dependentRequired"].items() if isinstance(value, dict) else ():
        for other in others if name in value else ():
            if other not in value:
                run.note(path, f"has {name!r} and so needs {other!r}")


def _items(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    if not isinstance(value, list):
        return
    told = schema["items"]
    if isinstance(told, list):  # as drafts before 2020 said it
        for index, (item, inner) in enumerate(zip(value, told, strict=False)):
            run.check(item, inner, f"{path}[{index}]")
        return
    for index in range(len(schema.get("prefixItems", ())), len(value)):
        run.check(value[index], told, f"{path}[{index}]")


def _prefix(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    if isinstance(value, list):
        for index, (item, inner) in enumerate(zip(value, schema["prefixItems"], strict=False)):
            run.check(item, inner, f"{path}[{index}]")


def _contains(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    if not isinstance(value, list):
        return
    found = sum(not run.trial(item, schema["contains"], path) for item in value)
    if not schema.get("minContains", 1) <= found <= schema.get("maxContains", found):
        run.note(path, f"has {found} items that fit `contains`")


def _unique(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    if not isinstance(value, list) or not schema["uniqueItems"]:
        return
    if len(value) > 1_000:
        run.note(path, "cannot be checked: it has more than 1,000 items that must be unique")
    elif any(same(one, other) for index, one in enumerate(value) for other in value[:index]):
        run.note(path, "has an item twice")


def _pattern(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    if isinstance(value, str):
        found = safe_pattern(schema["pattern"]).matches(value)
        if found is None:
            run.note(path, "cannot be checked: it is too long for its pattern")
        elif not found:
            run.note(path, f"must match {schema['pattern']!r}")


def _format(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
    check = _FORMATS.get(schema["format"])
    if check is None or not isinstance(value, str):
        return
    try:
        fine = len(value) <= 512 and check(value)
    except ValueError:
        fine = False
    if not fine:
        run.note(path, f"must be of the format {schema['format']}")


def _at_offset(value: str) -> bool:
    return datetime.fromisoformat(value).tzinfo is not None


_FORMATS: Final[Mapping[str, Callable[[str], object]]] = {
    "date": date.fromisoformat,
    "date-time": _at_offset,
    "time": time.fromisoformat,
    "uuid": _UUID.fullmatch,
    "email": _EMAIL.fullmatch,
    "hostname": _HOSTNAME.fullmatch,
    "ipv4": IPv4Address,
    "ipv6": IPv6Address,
}


def _sizes(
    name: str, kind: type | tuple[type, ...], measure: Callable[[Json, Json], bool], says: str
) -> Check:
    """Return the check of a keyword that compares a number: of a text, a list, an object or itself."""

    def check(run: Run, value: Json, schema: dict[str, Json], path: Path) -> None:
        if isinstance(value, kind) and not isinstance(value, bool) and not measure(value, schema[name]):
            run.note(path, f"{says} {schema[name]}")

    return check


def _is_multiple(value: Json, step: Json) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    quotient = float(value / step)
    return abs(quotient - round(quotient)) < 1e-9


_NUMBERS = (int, float)
_CHECKS: Final[Mapping[str, Check]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "$ref": _ref,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional,
    "propertyNames": _property_names,
    "required": _required,
    "dependentRequired": _dependent,
    "items": _items,
    "prefixItems": _prefix,
    "contains": _contains,
    "uniqueItems": _unique,
    "pattern": _pattern,
    "format": _format,
    "minimum": _sizes("minimum", _NUMBERS, lambda v, n: v >= n, "must be at least"),
    "maximum": _sizes("maximum", _NUMBERS, lambda v, n: v <= n, "must be at most"),
    "exclusiveMinimum": _sizes("exclusiveMinimum", _NUMBERS, lambda v, n: v > n, "must be above"),
    "exclusiveMaximum": _sizes("exclusiveMaximum", _NUMBERS, lambda v, n: v < n, "must be below"),
    "multipleOf": _sizes("multipleOf", _NUMBERS, _is_multiple, "must be a multiple of"),
    "minLength": _sizes("minLength", str, lambda v, n: len(v) >= n, "must be at least as long as"),
    "maxLength": _sizes("maxLength", str, lambda v, n: len(v) <= n, "must be at most as long as"),
    "minItems": _sizes("minItems", list, lambda v, n: len(v) >= n, "must have at least as many items as"),
    "maxItems": _sizes("maxItems", list, lambda v, n: len(v) <= n, "must have at most as many items as"),
    "minProperties": _sizes(
        "minProperties", dict, lambda v, n: len(v) >= n, "needs at least so many members:"
    ),
    "maxProperties": _sizes("maxProperties", dict, lambda v, n: len(v) <= n, "has more members than"),
}
# Where the inner schemas of a keyword are: in it, in a list, under names.
_ONE: Final = frozenset({"not", "if", "then", "else", "additionalProperties", "propertyNames", "contains"})
_LISTED: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_NUMERIC: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_SHAPES: Final[Mapping[str, type | tuple[type, ...]]] = {
    **dict.fromkeys(_LISTED | {"enum", "required"}, list),
    **dict.fromkeys(_NAMED | {"dependentRequired"}, dict),
    **dict.fromkeys(("$ref", "pattern", "format"), str),
    **dict.fromkeys(_NUMERIC, (int, float)),
    **dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), int
    ),
    "type": (str, list),
    "uniqueItems": bool,
}
