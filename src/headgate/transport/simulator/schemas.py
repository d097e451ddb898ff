"""Values that conform to a JSON Schema, taken from the prompt where it plainly says them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headgate.transport.simulator.bounds import other_than, size, within
from headgate.transport.simulator.labels import kind_of, labels_of
from headgate.transport.simulator.strings import Source, fill_string, fit

if TYPE_CHECKING:
    from headgate.transport.simulator.asked import JSONObject, Language
    from headgate.transport.simulator.facts import Facts

_DEEP = 5  # below this level only what is required is filled in
_BOTTOM = 24  # a schema that requires itself without end is given up here
_COUNTED = ("name", "city", "email", "url", "date")  # facts of which there may be a list
_MAX_ITEMS = 100
_MAX_VALUES = 20_000
_MOODS = {
    "positive": re.compile(
        r"\b(?:love|great|good|excellent|happy|amazing|wonderful|best|like)\b|喜欢|很好|太好|棒|满意|推荐|开心"
    ),
    "negative": re.compile(
        r"\b(?:hate|terrible|bad|awful|worst|sad|angry|poor|broken)\b|讨厌|很差|太差|糟糕|失望|难过|垃圾|不好"
    ),
}
# Members that have the first pick of the facts: groups of people, and the text of a message.
_FIRST = frozenset(
    {"participants", "attendees", "guests", "members", "people", "players", "body", "message", "content"}
)
_NO = re.compile(r"\b(?:not|no|isn't|never|without|false)\b[\w\s]{0,12}$|[不没无非]$", re.IGNORECASE)


class Filler:
    """Fills one schema from one prompt.

    `fill` raises `ValueError` when the schema asks for too many values.

    Args:
        root: the schema; `$ref` resolves within it.
        facts: of the prompt; what is used is used up.
        language: of the prompt.
        eager: fill optional members too, as a model does in a structured answer; else only those
            that the prompt speaks of, as a model does in a tool call.
        about: the prompt's own matter, for members that hold prose.
    """

    __slots__ = ("_budget", "_eager", "_root", "_source")

    def __init__(self, root: object, facts: Facts, language: Language, *, eager: bool, about: str) -> None:
        self._root = root
        self._budget = _MAX_VALUES
        self._source = Source(facts, language, about)
        self._eager = eager

    def fill(self, key: str = "") -> Any:
        """Return a value that conforms."""
        return self._value(self._root, key, 0)

    def _value(self, schema: object, key: str, depth: int) -> Any:
        self._budget -= 1
        if self._budget < 0:
            raise ValueError("the schema asks for more values than the simulator makes")
        given = self._resolve(schema)
        if depth > _BOTTOM:
            return None
        if "const" in given:
            return given["const"]
        if isinstance(given.get("enum"), list) and given["enum"]:
            return self._pick(given["enum"])
        branches = given.get("anyOf") or given.get("oneOf")
        if isinstance(branches, list) and branches:
            return self._branch(given, branches, key, depth)
        kind = _type_of(given, key)
        if isinstance(kind, list):
            return self._nullable(given, kind, key, depth)
        return self._typed(given, kind, key, depth)

    def _typed(self, given: JSONObject, kind: str, key: str, depth: int) -> Any:
        match kind:
            case "object":
                return self._object(given, depth)
            case "array":
                return self._array(given, key, depth)
            case "integer" | "number":
                return self._number(given, key, whole=kind == "integer")
            case "boolean":
                return self._boolean(key)
            case "null":
                return None
            case _:
                return fill_string(given, key, self._source)

    def _resolve(self, schema: object, level: int = 0) -> JSONObject:
        """Return a schema with its references and `allOf` parts merged in."""
        merged: JSONObject = schema if isinstance(schema, dict) else {}
        for _ in range(16 if level < 4 else 0):
            if "$ref" in merged:
                rest = {name: value for name, value in merged.items() if name != "$ref"}
                merged = _merge(self._at(merged["$ref"]), rest)
            elif isinstance(merged.get("allOf"), list):
                parts = merged["allOf"]
                merged = {name: value for name, value in merged.items() if name != "allOf"}
                for part in parts[:_MAX_ITEMS]:
                    merged = _merge(merged, self._resolve(part, level + 1))
            else:
                break
        return merged

    def _at(self, reference: object) -> JSONObject:
        found: Any = self._root
        path = reference.removeprefix("#") if isinstance(reference, str) else ""
        for step in path.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def _pick(self, values: list[Any]) -> Any:
        """Return the allowed value that the prompt speaks of, else the first."""
        text = self._source.facts.text.lower()
        for value in values:
            if isinstance(value, str) and value and _mentions(text, value.lower()):
                self._source.facts.hits += 1
                return value
        moods = {
            value.lower(): value for value in values if isinstance(value, str) and value.lower() in _MOODS
        }
        for mood, value in moods.items():
            if _MOODS[mood].search(text):
                return value
        return values[0]

    def _branch(self, given: JSONObject, branches: list[Any], key: str, depth: int) -> Any:
        rest = {name: value for name, value in given.items() if name not in {"anyOf", "oneOf"}}
        options = [_merge(rest, self._resolve(branch)) for branch in branches]
        empty = [option for option in options if option.get("type") == "null"]
        solid = [option for option in options if option.get("type") != "null"]
        if not solid or (empty and depth > _DEEP):
            return None
        if depth > _DEEP:
            solid.sort(key=lambda option: option.get("type") in {"object", "array"} or "properties" in option)
        before = self._source.facts.hits
        chosen = next((option for option in solid if self._speaks_of(option)), solid[0])
        value = self._value(chosen, key, depth + 1)
        return None if empty and self._source.facts.hits == before else value

    def _speaks_of(self, option: JSONObject) -> bool:
        """Say whether the prompt names a constant of an alternative: its `kind` or `type`."""
        text = self._source.facts.text.lower()
        for member in (option, *(option.get("properties") or {}).values()):
            only = member.get("const") if isinstance(member, dict) else None
            if isinstance(only, str) and only and _mentions(text, only.lower()):
                return True
        return False

    def _nullable(self, given: JSONObject, kinds: list[str], key: str, depth: int) -> Any:
        solid = [kind for kind in kinds if kind != "null"]
        if not solid or (len(solid) < len(kinds) and depth > _DEEP):
            return None
        before = self._source.facts.hits
        value = self._value({**given, "type": solid[0]}, key, depth)
        return None if len(solid) < len(kinds) and self._source.facts.hits == before else value

    def _object(self, given: JSONObject, depth: int) -> JSONObject:
        members = given.get("properties")
        members = members if isinstance(members, dict) else {}
        required = [name for name in given.get("required") or () if isinstance(name, str)]
        made: JSONObject = {}
        for name in sorted(members, key=lambda name: name not in _FIRST):
            if name not in required and depth > _DEEP:
                continue
            before = self._source.facts.hits
            value = self._value(members[name], name, depth + 1)
            if name in required or self._eager or self._source.facts.hits > before:
                made[name] = value
        filled = {name: made[name] for name in members if name in made}
        more = given.get("additionalProperties", True)
        for name in required:
            if name not in filled:
                filled[name] = self._value(more, name, depth + 1)
        return self._fill_up(filled, given, depth)

    def _fill_up(self, filled: JSONObject, given: JSONObject, depth: int) -> JSONObject:
        """Add members until there are as many as `minProperties` asks for."""
        more = given.get("additionalProperties", True)
        names = [*(given.get("properties") or {}), *(f"key{n}" for n in range(1, _MAX_ITEMS))]
        for name in names[:_MAX_ITEMS]:
            if len(filled) >= size(given.get("minProperties"), 0):
                break
            member = (given.get("properties") or {}).get(name, more)
            filled.setdefault(name, self._value(member, name, depth + 1))
        return filled

    def _array(self, given: JSONObject, key: str, depth: int) -> list[Any]:
        least = size(given.get("minItems"), 0)
        most = min(size(given.get("maxItems"), _MAX_ITEMS), _MAX_ITEMS)
        first = given.get("prefixItems")
        made = [self._value(item, key, depth + 1) for item in first] if isinstance(first, list) else []
        item = given.get("items", given.get("additionalItems", not made))
        if item is False:
            return made
        listed = (
            self._source.facts.listed(labels_of(key)) if self._resolve(item).get("type") == "string" else []
        )
        if listed and "enum" not in self._resolve(item) and "pattern" not in self._resolve(item):
            return (made + [fit(text, self._resolve(item), key, self._source.facts) for text in listed])[
                : max(most, least)
            ]
        wanted = 0 if depth > _DEEP else self._how_many(item, key)
        wanted = max(least, min(most, wanted))
        unique = bool(given.get("uniqueItems"))
        while len(made) < wanted:
            value = self._value(item, _singular(key), depth + 1)
            made.append(other_than(made, value, self._resolve(item)) if unique else value)
        return made

    def _how_many(self, item: object, key: str) -> int:
        """Return how many items the prompt has facts for."""
        given = self._resolve(item)
        facts = self._source.facts
        if _type_of(given, key) in ("integer", "number"):
            return max(facts.numbers_left(), 1)
        for name, member in {key: given, **(given.get("properties") or {})}.items():
            resolved = self._resolve(member)
            fact = kind_of(_singular(name), str(resolved.get("description", "")))
            if _type_of(resolved, name) == "string" and fact in _COUNTED and facts.left(fact):
                return facts.left(fact)
        return 1

    def _number(self, given: JSONObject, key: str, *, whole: bool) -> float:
        fact = self._source.facts.take_number(labels_of(key), whole=whole)
        return within(given, fact if fact is not None else 1, whole=whole)

    def _boolean(self, key: str) -> bool:
        """Return whether the prompt speaks of the member's matter without denying it."""
        text = self._source.facts.text
        for label in labels_of(re.sub(r"^(?:is|has|are|should|can)_?(?=[A-Z_a-z])", "", key)):
            found = re.search(re.escape(label), text, re.IGNORECASE)
            if found and len(label) > 2:
                self._source.facts.hits += 1
                said = text[found.end() : found.end() + 12].lower()
                return not (
                    _NO.search(text[: found.start()]) or re.match(r"\W*(?:is\s+)?(?:false|no|否)", said)
                )
        return False


def _type_of(given: JSONObject, key: str) -> str | list[str]:
    """Return a schema's type; where it has none, the one that its other words imply."""
    kind = given.get("type")
    if isinstance(kind, str):
        return kind
    if isinstance(kind, list) and kind:
        return kind[0] if len(kind) == 1 else kind
    for words, implied in (
        (("properties", "required", "additionalProperties", "minProperties"), "object"),
        (("items", "prefixItems", "minItems"), "array"),
        (("minimum", "maximum", "multipleOf", "exclusiveMinimum"), "number"),
    ):
        if any(word in given for word in words):
            return implied
    return "number" if kind_of(key, "") == "number" else "string"


def _merge(base: JSONObject, over: JSONObject) -> JSONObject:
    """Return both schemas as one."""
    merged = {**base, **over}
    if isinstance(base.get("properties"), dict) and isinstance(over.get("properties"), dict):
        merged["properties"] = {**base["properties"], **over["properties"]}
    if isinstance(base.get("required"), list) and isinstance(over.get("required"), list):
        merged["required"] = [*base["required"], *over["required"]]
    return merged


def _mentions(text: str, word: str) -> bool:
    if not word.isascii():
        return word in text
    return re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", text) is not None


def _singular(key: str) -> str:
    if key.endswith("ies"):
        return key[:-3] + "y"
    return key[:-1] if key.endswith("s") and not key.endswith("ss") else key
