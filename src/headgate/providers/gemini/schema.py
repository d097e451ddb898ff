"""JSON schemas as far as Gemini takes them.

Of JSON Schema it knows the keywords of `_KEPT`, enumerations of texts and numbers only, and nothing beside a
`$ref`. What says the same in its words is rewritten. What cannot be said is reported, for the policy to
decide; what constrains nothing, like `$schema` and `examples`, goes without a word. Facts: Google's reference
of `GenerationConfig.responseJsonSchema` and `FunctionDeclaration.parametersJsonSchema`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Schema = dict[str, Any]
_KEPT = frozenset(
    {
        *("$id", "$anchor", "title", "description", "minItems", "maxItems", "minimum", "maximum", "required"),
        "propertyOrdering",
    }
)
_FORMATS = frozenset({"date-time", "date", "time", "float", "double", "int32", "int64"})
# What constrains a value and has no place; `format` is one of them where it is not known.
_CONSTRAINTS = frozenset(
    {
        *("pattern", "minLength", "maxLength", "multipleOf", "exclusiveMinimum", "exclusiveMaximum"),
        *("uniqueItems", "contains", "minContains", "maxContains", "minProperties", "maxProperties"),
        *("patternProperties", "propertyNames", "dependencies", "dependentRequired", "dependentSchemas"),
        *("not", "if", "unevaluatedItems", "unevaluatedProperties"),
    }
)
_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")


def clean(schema: Any) -> tuple[Schema, list[str]]:
    """Return a schema in Gemini's words, and the keywords that it cannot express, sorted."""
    cleaning = _Cleaning()
    cleaned = cleaning.schema(schema)
    return cleaned, sorted(cleaning.lost)


class _Cleaning:
    """One schema on its way; `lost` are the keywords that found no place."""

    def __init__(self) -> None:
        self.lost: set[str] = set()

    def schema(self, schema: Any) -> Schema:
        """Return one schema, or a part of one, cleaned."""
        if schema is True or not isinstance(schema, dict):
            if schema is False:
                self.lost.add("false")
            return {}
        schema = self._merged(schema)
        out: Schema = {}
        for keyword, value in schema.items():
            handler = _HANDLERS.get(keyword)
            if handler is not None:
                handler(self, out, value)
            elif keyword in _KEPT:
                out[keyword] = value
            elif keyword in _CONSTRAINTS and _NO_CONSTRAINT.get(keyword, out) != value:
                self._constrain(out, keyword, value, schema)
        return self._alone(_nullable(out, schema))

    def _merged(self, schema: Schema) -> Schema:
        """Return a schema with the parts of `allOf` in it, where they do not contradict one another."""
        parts = schema.get("allOf")
        if not isinstance(parts, list):
            return schema
        whole = {name: value for name, value in schema.items() if name != "allOf"}
        for part in map(self._merged, filter(lambda part: isinstance(part, dict), parts)):
            for name, value in part.items():
                if name not in whole or whole[name] == value:
                    whole[name] = value
                elif name == "properties" and not whole[name].keys() & value.keys():
                    whole[name] = whole[name] | value
                elif name == "required":
                    whole[name] = list(dict.fromkeys([*whole[name], *value]))
                elif name not in {"title", "description"}:
                    self.lost.add("allOf")
        return whole

    def _constrain(self, out: Schema, keyword: str, value: Any, schema: Schema) -> None:
        """Say an open bound of an integer as a closed one; all else is lost."""
        if schema.get("type") == "integer" and type(value) is int:
            if keyword == "exclusiveMinimum":
                out["minimum"] = max(value + 1, schema.get("minimum", value + 1))
                return
            if keyword == "exclusiveMaximum":
                out["maximum"] = min(value - 1, schema.get("maximum", value - 1))
                return
        self.lost.add(keyword)

    def _alone(self, out: Schema) -> Schema:
        """Put a reference that has neighbours into a choice of one: nothing may stand beside it."""
        beside = [name for name in out if not name.startswith("$")]
        if "$ref" not in out or not beside:
            return out
        reference = {"$ref": out.pop("$ref")}
        if "anyOf" in out:
            self.lost.add("$ref")
            return out
        return {**out, "anyOf": [reference]}

    def types(self, out: Schema, value: Any) -> None:
        """Keep a type, or several."""
        names = value if isinstance(value, list) else [value]
        names = [name.lower() for name in names if isinstance(name, str)]
        if names and all(name in _TYPES for name in names):
            out["type"] = names[0] if len(names) == 1 else names

    def reference(self, out: Schema, value: Any) -> None:
        """Keep a reference; definitions have one place."""
        if isinstance(value, str):
            out["$ref"] = value.replace("#/definitions/", "#/$defs/", 1)

    def named(self, out: Schema, value: Any) -> None:
        """Keep the schemas of properties."""
        if isinstance(value, dict):
            out["properties"] = {name: self.schema(inner) for name, inner in value.items()}

    def definitions(self, out: Schema, value: Any) -> None:
        """Keep the schemas that are referred to."""
        if isinstance(value, dict):
            defs = {name: self.schema(inner) for name, inner in value.items()}
            out["$defs"] = out.get("$defs", {}) | defs

    def items(self, out: Schema, value: Any) -> None:
        """Keep the schema of all items, or, as older drafts have it, of each."""
        if isinstance(value, list):
            out["prefixItems"] = [self.schema(inner) for inner in value]
        else:
            out["items"] = self.schema(value)

    def prefix(self, out: Schema, value: Any) -> None:
        """Keep the schemas of the first items."""
        if isinstance(value, list):
            out["prefixItems"] = [self.schema(inner) for inner in value]

    def others(self, out: Schema, value: Any) -> None:
        """Keep what is said of other properties."""
        out["additionalProperties"] = value if isinstance(value, bool) else self.schema(value)

    def any_of(self, out: Schema, value: Any) -> None:
        """Keep alternatives. `oneOf` means the same to Gemini, so it takes their place."""
        if not isinstance(value, list):
            return
        if "anyOf" in out:
            self.lost.add("oneOf")
        else:
            out["anyOf"] = [self.schema(inner) for inner in value]

    def enum(self, out: Schema, value: Any) -> None:
        """Keep the texts and numbers of an enumeration; null becomes a type beside them."""
        if not isinstance(value, list):
            return
        plain = [entry for entry in value if type(entry) in {str, int, float}]
        kinds = {type(entry) for entry in value} - {str, int, float, type(None)}
        if kinds == {bool} and not plain and len({*value} - {None}) == 2:
            return  # both truths: what the type says
        if kinds or not plain:
            if value != [None]:
                self.lost.add("enum")
        elif len(plain) < len(value):
            out["anyOf"] = [{"enum": plain}, {"type": "null"}]
        else:
            out["enum"] = plain

    def const(self, out: Schema, value: Any) -> None:
        """Say a constant as an enumeration of one."""
        if value is None:
            out["type"] = "null"
        else:
            self.enum(out, [value])

    def format(self, out: Schema, value: Any) -> None:
        """Keep the formats that are known."""
        if value in _FORMATS:
            out["format"] = value
        else:
            self.lost.add("format")


_NO_CONSTRAINT = {"minLength": 0, "minProperties": 0, "minContains": 0, "uniqueItems": False}
_HANDLERS: dict[str, Callable[[_Cleaning, Schema, Any], None]] = {
    "type": _Cleaning.types,
    "$ref": _Cleaning.reference,
    "properties": _Cleaning.named,
    "$defs": _Cleaning.definitions,
    "definitions": _Cleaning.definitions,
    "items": _Cleaning.items,
    "prefixItems": _Cleaning.prefix,
    "additionalProperties": _Cleaning.others,
    "anyOf": _Cleaning.any_of,
    "oneOf": _Cleaning.any_of,
    "enum": _Cleaning.enum,
    "const": _Cleaning.const,
    "format": _Cleaning.format,
}


def _nullable(out: Schema, schema: Schema) -> Schema:
    """Say `nullable`, which is OpenAPI's, as a type."""
    kinds = out.get("type")
    if schema.get("nullable") is True and kinds is not None:
        names = [kinds] if isinstance(kinds, str) else kinds
        out["type"] = list(dict.fromkeys([*names, "null"]))
    return out
