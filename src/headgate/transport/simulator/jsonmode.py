"""JSON answers without a schema: the members that the prompt asks for, or its answer in one member."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headgate.transport.simulator.facts import Facts
from headgate.transport.simulator.obey import obey
from headgate.transport.simulator.sayings import cannot, topic
from headgate.transport.simulator.schemas import Filler

if TYPE_CHECKING:
    from headgate.transport.simulator.asked import JSONObject, Prompt

_KEY = (
    r"[\"'`“]?(?:[A-Za-z_][A-Za-z0-9_]{0,30}"
    r"|[\u4e00-\u9fff]{1,8}?(?=[\s,\uff0c\u3001\u3002:\uff1a和及与”]|这?[两三四五]个|字段|的?信息|$))"
    r"[\"'`”]?"
)
_KEYS = rf"(?P<keys>{_KEY}(?:\s*(?:,\s*and\b|[,，、]|\band\b|和|及|与)\s*{_KEY})*)"
_TEMPLATE = re.compile(r"\{\s*\"[\w\u4e00-\u9fff ]+\"\s*:")
_WHOLE_TEMPLATE = re.compile(r"\{\s*\"[^{}]*\}")
_TEMPLATE_KEY = re.compile(r"[{,]\s*\"([\w\u4e00-\u9fff ]+)\"\s*:")
# The flag covers the English words alone: a case-blind range of Han characters is slow to compile.
_ASKS_KEYS = (
    re.compile(
        r"(?i:\b(?:keys?|fields?|properties|attributes|members)\b"
        r"(?:\s+(?:named|called|of|like|such as|are|is))?)"
        rf"\s*[\uff1a:]?\s*{_KEYS}"
    ),
    re.compile(
        rf"(?i:\bJSON(?:\s+object)?\s+(?:with|containing|having|of))\s+(?:the\s+|only\s+){{0,2}}{_KEYS}"
    ),
    re.compile(rf"(?i:\bextract)\s+(?:the\s+|person's\s+){{0,2}}{_KEYS}"),
    re.compile(rf"(?:包含|包括|提取|抽取)出?\s*{_KEYS}\s*(?:这?[两三四五]?个|等)?(?:字段|键|属性|信息)?"),
    re.compile(rf"(?:字段|键名?|属性)(?:名?为|是|有|包括|包含|分别){{0,2}}\s*[\uff1a:]?\s*{_KEYS}"),
)
_SPLIT = re.compile(r"\s*(?:,\s*and\b|[,，、]|\band\b|和|及|与)\s*")
_EXTRACT = re.compile(r"\b(?:extract|parse|convert|json)\b|提取|抽取|解析|转", re.IGNORECASE)
_VAGUE = "the a an your from json object following information this it each as in to 信息 以下"
_NOT_KEYS = frozenset(_VAGUE.split())
_READ = 4_000  # characters in which members are looked for
_KINDS = ("name", "email", "phone", "city", "date", "url")


def json_answer(prompt: Prompt) -> JSONObject:
    """Return an object that has to do with the prompt."""
    keys = _keys(prompt.text[:_READ]) or _keys(prompt.system[:_READ])
    if keys:
        schema = {"type": "object", "properties": {key: {} for key in keys}, "required": keys}
        about = topic(_TEMPLATE.split(prompt.text)[0], prompt.language)
        filler = Filler(
            schema, Facts(_WHOLE_TEMPLATE.sub(" ", prompt.text)), prompt.language, eager=True, about=about
        )
        filled: JSONObject = filler.fill()
        return filled
    answer = obey(prompt)
    if answer is not None:
        return {"answer": _plain(answer)}
    facts = Facts(prompt.text)
    if _EXTRACT.search(prompt.text) and (found := _found(facts)):
        return found
    return {"message": cannot(prompt)}


def _keys(text: str) -> list[str]:
    """Return the members that a text asks for."""
    if _TEMPLATE.search(text):
        return list(dict.fromkeys(_TEMPLATE_KEY.findall(text)))
    for pattern in _ASKS_KEYS:
        for found in pattern.finditer(text):
            keys = [key.strip("\"'`“” ") for key in _SPLIT.split(found["keys"])]
            if keys[0].lower() not in _NOT_KEYS:
                return list(dict.fromkeys(key for key in keys if key))
    return []


def _found(facts: Facts) -> JSONObject:
    found: JSONObject = {}
    for kind in _KINDS:
        values = facts.all(kind)
        if values:
            found[kind if len(values) == 1 else kind + "s"] = values[0] if len(values) == 1 else values
    number = facts.take_number()
    if number is not None:
        found["number"] = number
    return found


def _plain(answer: str) -> Any:
    """Return a number or a list of numbers for an answer that is one."""
    if re.fullmatch(r"-?\d{1,15}", answer):
        return int(answer)
    parts = re.split(r", |、|\n| ", answer)
    if len(parts) > 1 and all(re.fullmatch(r"-?\d{1,15}", part) for part in parts):
        return [int(part) for part in parts]
    return answer
