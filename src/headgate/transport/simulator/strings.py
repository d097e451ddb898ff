"""The string members of a schema: what the prompt says of them, within format, pattern and length."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate.transport.simulator.bounds import size
from headgate.transport.simulator.formats import KINDS, in_format, iso_date, plain_format, stand_in
from headgate.transport.simulator.labels import default_of, kind_of, labels_of
from headgate.transport.simulator.patterns import matches, sample

if TYPE_CHECKING:
    from headgate.transport.simulator.asked import JSONObject, Language
    from headgate.transport.simulator.facts import Facts

_TAKEN = frozenset({"city", "name", "email", "phone", "url", "date", "time"})
_CONTACTS = frozenset({"to", "from", "recipient", "recipients", "sender", "cc"})  # people or their addresses
_EXPRESSIONS = frozenset({"expression", "equation", "formula"})
_EXPRESSION = re.compile(r"[\d(][\d\s.()+*/^x×÷=-]*[\d)x]")
_ISO_WANTED = re.compile(r"YYYY|ISO", re.IGNORECASE)
_BETWEEN_WORDS = re.compile(r"[\s,;\uff0c\u3001\u3002\uff1b\uff1a:]+")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the values come from."""

    facts: Facts
    language: Language
    about: str  # the prompt's own matter, for members that hold prose


def fill_string(given: JSONObject, key: str, source: Source) -> str:
    """Return the value of a string member."""
    name = plain_format(given.get("format"))
    kind = KINDS.get(name) or kind_of(key, str(given.get("description", "")))
    fact = _said(key, kind, source)
    if name:
        written = in_format(name, fact) if fact is not None else None
        return written if written is not None else stand_in(name, key)
    if fact is None and (kind == "text" or key == "name"):
        fact = source.about or None
    if fact is None:
        fact = default_of(kind, key, source.language)
    return fit(fact, given, key, source.facts)


def _said(key: str, kind: str | None, source: Source) -> str | None:
    """Return what the prompt says of a member."""
    facts = source.facts
    if key in _CONTACTS and not facts.left("city"):
        kind = next((other for other in ("email", "phone", "name") if facts.left(other)), kind)
    if kind in _TAKEN and facts.left(kind):
        return facts.take(kind)
    labelled = facts.labelled(labels_of(key)) if key else None
    if labelled is not None:
        return labelled
    if kind == "text":
        return _prose(key, source)
    if kind == "thing":
        return facts.take("quoted") or facts.take("name")
    return facts.take("code") if kind in {"number", "code"} else None


def _prose(key: str, source: Source) -> str | None:
    facts = source.facts
    found = _EXPRESSION.search(facts.text) if key in _EXPRESSIONS else None
    if found is None and facts.left("quoted"):
        return facts.take("quoted")
    if found is None and not source.about:
        return None
    facts.hits += 1  # the whole prompt is about it
    return found[0].strip() if found is not None else source.about


def fit(text: str, given: JSONObject, key: str, facts: Facts) -> str:
    """Return a text that keeps to `pattern`, `minLength` and `maxLength`."""
    least = size(given.get("minLength"), 0)
    most = size(given.get("maxLength"), 1_000_000)
    pattern = given.get("pattern")
    if isinstance(pattern, str):
        return _matching(pattern, text, (least, most), facts)
    if kind_of(key, "") == "date" and _ISO_WANTED.search(str(given.get("description", ""))):
        text = iso_date(text) or text
    text = text[:most]
    return text + "." * max(0, min(least, 100_000) - len(text))


def _matching(pattern: str, text: str, lengths: tuple[int, int], facts: Facts) -> str:
    least, most = lengths
    words = [text, *_BETWEEN_WORDS.split(facts.text)[:500]]
    for word in (trimmed for whole in words for trimmed in (whole, whole.strip(".!?\"'"))):
        if least <= len(word) <= most and matches(pattern, word):
            facts.hits += 1
            return word
    for extra in (0, 1, 2, 4, 8, 16, 32, *range(3, min(least, 64) + 1)):
        made = sample(pattern, extra)
        if made is None:
            break
        if least <= len(made) <= most:
            return made
    return text
