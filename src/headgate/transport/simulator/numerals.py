"""Numbers in words, English and Chinese, and small sums."""

from __future__ import annotations

import re

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_WORDS = _SMALL.split()
_ENGLISH = {word: number for number, word in enumerate(_WORDS)} | {
    "thirty": 30, "forty": 40, "fifty": 50, "hundred": 100, "once": 1, "twice": 2,
}  # fmt: skip
_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
_UNITS = {"十": 10, "百": 100, "千": 1000}

NUMERAL = rf"(?:-?\d{{1,7}}|[零〇一二两三四五六七八九十百千]{{1,7}}|(?:{'|'.join(_ENGLISH)})\b)"

_OPERATORS = (
    (re.compile(r"\s*(?:\bplus\b|加上?|\+|＋)\s*", re.IGNORECASE), "+"),
    (re.compile(r"\s*(?:\bminus\b|减去?|−|–)\s*", re.IGNORECASE), "-"),
    (re.compile(r"\s*(?:\btimes\b|\bmultiplied by\b|乘以?|×|\*)\s*", re.IGNORECASE), "*"),
    (re.compile(r"\s*(?:\bdivided by\b|除以|÷)\s*", re.IGNORECASE), "/"),
)
_SUM = re.compile(r"\(*-?\d[\d.]{0,15}\)*(?:\s*[-+*/]\s*\(*-?\d[\d.]{0,15}\)*){1,20}")
_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?|[-+*/()])")
_NUMBER_WORD = re.compile(rf"(?<![\w零一二两三四五六七八九十百千])(?:{NUMERAL})", re.IGNORECASE)


def number_of(word: str) -> int | None:
    """Return the number that a numeral names: digits, English words or Chinese characters."""
    word = word.strip().lower()
    if re.fullmatch(r"-?\d+", word):
        return int(word)
    if word in _ENGLISH:
        return _ENGLISH[word]
    return _chinese(word) if word else None


def _chinese(word: str) -> int | None:
    total, digit = 0, 0
    for char in word:
        if char in _DIGITS:
            digit = _DIGITS[char]
        elif char in _UNITS:
            total += (digit or 1) * _UNITS[char]
            digit = 0
        else:
            return None
    return total + digit


def find_sum(text: str) -> str | None:
    """Return the first sum in a text, written with `+ - * /`."""
    text = " ".join(text[:500].split())
    plain = _NUMBER_WORD.sub(lambda found: str(number_of(found[0])), text)
    plain = re.sub(r"(?<=\d)\s*[xX]\s*(?=\d)", "*", plain)
    for pattern, sign in _OPERATORS:
        plain = pattern.sub(sign, plain)
    found = _SUM.search(plain)
    return found[0].strip() if found else None


def work_out(expression: str) -> str | None:
    """Return the value of a sum as text, or None when it has none."""
    tokens = _TOKEN.findall(expression)
    try:
        value, rest = _terms(tokens)
    except (ZeroDivisionError, ValueError, IndexError, OverflowError):
        return None
    if rest:
        return None
    return str(int(value)) if value == int(value) else f"{value:.10g}"


def _terms(tokens: list[str]) -> tuple[float, list[str]]:
    value, tokens = _factors(tokens)
    while tokens and tokens[0] in "+-":
        sign = tokens[0]
        right, tokens = _factors(tokens[1:])
        value = value + right if sign == "+" else value - right
    return value, tokens


def _factors(tokens: list[str]) -> tuple[float, list[str]]:
    value, tokens = _atom(tokens)
    while tokens and tokens[0] in "*/":
        sign = tokens[0]
        right, tokens = _atom(tokens[1:])
        if sign == "/" and right and value % right == 0:
            value //= right  # stays an exact integer
        else:
            value = value * right if sign == "*" else value / right
    return value, tokens


def _atom(tokens: list[str]) -> tuple[float, list[str]]:
    first, rest = tokens[0], tokens[1:]
    if first == "-":
        value, rest = _atom(rest)
        return -value, rest
    if first == "(":
        value, rest = _terms(rest)
        if rest[0] != ")":
            raise ValueError(first)
        return value, rest[1:]
    return (float(first) if "." in first else int(first)), rest
