"""Strings that match a JSON Schema `pattern`.

Handles literals, classes, groups, alternatives, repeats and anchors; not look-around or back-references.
A pattern that may backtrack for long is never run against a text: a caller could stall the gateway.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MAX_REPEAT = 64
_MAX_LENGTH = 2_000
_CLASSES = {"d": "1234567890", "w": "abcdefghijklmnopqrstuvwxyz0123456789", "s": " ", "n": "\n", "t": "\t"}
_NEGATED = {"D": "d", "W": "w", "S": "s"}
_PRINTABLE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_. "


class _Unsupported(Exception):
    """The pattern has a part that is not handled."""


@dataclass(slots=True)
class _Cursor:
    source: str
    extra: int = 0  # repeats beyond the least, where the pattern allows them
    at: int = 0

    def peek(self) -> str:
        return self.source[self.at] if self.at < len(self.source) else ""

    def take(self) -> str:
        char = self.peek()
        self.at += 1
        return char

    def skip(self, text: str) -> bool:
        if self.source.startswith(text, self.at):
            self.at += len(text)
            return True
        return False


def sample(pattern: str, extra: int = 0) -> str | None:
    """Return a string that matches, or None where the pattern is not one that is handled.

    Args:
        pattern: a regular expression as JSON Schema has them, not anchored.
        extra: repeats to write beyond the least number, where they are allowed.
    """
    if len(pattern) > _MAX_LENGTH:
        return None
    cursor = _Cursor(pattern, extra)
    try:
        text = _alternatives(cursor, 0)
    except _Unsupported:
        return None
    return text if cursor.at >= len(pattern) else None


def matches(pattern: str, text: str) -> bool:
    """Say whether a pattern is surely harmless and is found in the text."""
    if len(text) > 256 or len(pattern) > 256 or _may_explode(pattern):
        return False
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def _may_explode(pattern: str) -> bool:
    """Say whether a repeated group holds a repeat or a choice, or whether repeats are many."""
    nested = re.search(r"[*+}|][^()]*(?:\([^()]*\)[^()]*)*\)[*+{]", pattern)
    return bool(nested) or len(re.findall(r"[*+]|\{\d+,", pattern)) > 3


def _alternatives(cursor: _Cursor, depth: int) -> str:
    """Read branches up to the end of the group; return the first one's text."""
    if depth > 20:
        raise _Unsupported
    first = _sequence(cursor, depth)
    while cursor.skip("|"):
        _sequence(cursor, depth)
    return first


def _sequence(cursor: _Cursor, depth: int) -> str:
    out: list[str] = []
    while cursor.peek() not in {"", "|", ")"}:
        if cursor.peek() in "^$":
            cursor.take()
            continue
        unit = _atom(cursor, depth)
        out.append(_repeated(unit, _repeats(cursor)))
    return "".join(out)


def _atom(cursor: _Cursor, depth: int) -> str:
    char = cursor.take()
    if char == "(":
        return _group(cursor, depth)
    if char == "[":
        return _class(cursor)
    if char == "\\":
        return _escape(cursor)[0:1]
    if char in "*+?{":
        raise _Unsupported
    return "a" if char == "." else char


def _group(cursor: _Cursor, depth: int) -> str:
    if cursor.skip("?") and not cursor.skip(":"):
        named = re.match(r"P?<\w+>", cursor.source[cursor.at :])
        if not named:
            raise _Unsupported
        cursor.at += named.end()
    text = _alternatives(cursor, depth + 1)
    if not cursor.skip(")"):
        raise _Unsupported
    return text


def _class(cursor: _Cursor) -> str:
    """Read a character class; return its first member, or a printable one outside a negated class."""
    negated = cursor.skip("^")
    members: list[str] = []
    while not (cursor.peek() == "]" and members):
        char = cursor.take()
        if not char:
            raise _Unsupported
        members.append(_escape(cursor) if char == "\\" else char)
        if cursor.peek() == "-" and cursor.source[cursor.at + 1 : cursor.at + 2] not in {"]", ""}:
            cursor.take()
            last = cursor.take()
            last = _escape(cursor) if last == "\\" else last
            members[-1] = "".join(
                chr(c) for c in range(ord(members[-1][0]), min(ord(last[0]), 0x10FFFF) + 1)[:200]
            )
    cursor.take()
    chars = "".join(members)
    if not negated:
        return chars[0] if not chars[0].isspace() else next((c for c in chars if not c.isspace()), chars[0])
    free = next((c for c in _PRINTABLE if c not in chars), None)
    if free is None:
        raise _Unsupported
    return free


def _escape(cursor: _Cursor) -> str:
    """Read what follows a backslash; return the characters that it stands for, none for an anchor."""
    char = cursor.take()
    if char in {"b", "A", "Z"}:
        return ""
    if char in _CLASSES:
        return _CLASSES[char]
    if char in _NEGATED:
        return "".join(c for c in _PRINTABLE if c not in _CLASSES[_NEGATED[char]])
    if code := re.match(
        {"u": r"[0-9a-fA-F]{4}", "x": r"[0-9a-fA-F]{2}"}.get(char, "(?!)"), cursor.source[cursor.at :]
    ):
        cursor.at += code.end()
        return chr(int(code[0], 16))
    if not char or char.isalnum():
        raise _Unsupported
    return char


def _repeats(cursor: _Cursor) -> int:
    """Read a quantifier; return the number of repeats to write."""
    if cursor.skip("*"):
        least, most = 0, None
    elif cursor.skip("+"):
        least, most = 1, None
    elif cursor.skip("?"):
        least, most = 0, 1
    elif counted := re.match(r"\{(\d+)(,?)(\d*)\}", cursor.source[cursor.at :]):
        cursor.at += counted.end()
        least = int(counted[1])
        most = int(counted[3]) if counted[3] else None if counted[2] else least
    else:
        return 1
    _ = cursor.skip("?") or cursor.skip("+")  # lazy or possessive: the same strings
    wished = least + cursor.extra
    return wished if most is None else min(wished, most)


def _repeated(unit: str, times: int) -> str:
    if times > _MAX_REPEAT * 16 or len(unit) * times > _MAX_LENGTH:
        raise _Unsupported
    return unit * times
