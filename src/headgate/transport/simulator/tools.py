"""Which tool a prompt is for, the calls with arguments from the prompt, and a tool's result in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.transport.simulator.asked import text_of
from headgate.transport.simulator.facts import Facts
from headgate.transport.simulator.labels import kind_of
from headgate.transport.simulator.numerals import find_sum
from headgate.transport.simulator.sayings import TOOL_SAID, topic
from headgate.transport.simulator.schemas import Filler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.transport.simulator.asked import ChatAsked, JSONObject, Language, Prompt

_MAX_CALLS = 16
_ENOUGH = 2  # points at which a prompt is for a tool; a word of the tool's name is worth two
_VAGUE = (
    "get fetch do run the a an of for to in on and or with from current tool function data info "
    "information user use this that is are be by given return returns value values get set new all any "
    "it what how please can you"
)
_GENERIC = frozenset(_VAGUE.split())
_RECKON = frozenset({"calculate", "calculator", "math"})
_SUMS = {
    "+": _RECKON | {"add", "plus", "addition"},
    "-": _RECKON | {"subtract", "minus", "subtraction"},
    "*": _RECKON | {"multiply", "multiplication", "time"},
    "/": _RECKON | {"divide", "division"},
}
_RUN = re.compile(
    r"\b(?:run|execute|evaluate)\b\s*(?:the\s+|this\s+)?(?:\w+\s*:|:)?\s*(.+)|(?:运行|执行)[：:\s]*(.+)",
    re.IGNORECASE | re.DOTALL,
)
# What a Chinese prompt says where a tool's English name says the other.
_CHINESE = {
    "天气": "weather", "气温": "weather temperature", "温度": "temperature", "预报": "forecast",
    "搜索": "search", "搜一下": "search", "查找": "search find", "查询": "query lookup",
    "查一下": "query lookup", "计算": "calculate math", "算": "calculate math", "邮件": "email mail",
    "时间": "time", "几点": "time", "日期": "date", "股票": "stock", "股价": "stock price",
    "价格": "price", "新闻": "news", "翻译": "translate", "日历": "calendar", "会议": "meeting event",
    "提醒": "reminder remind", "地图": "map", "路线": "route direction", "航班": "flight",
    "机票": "flight ticket", "酒店": "hotel", "餐厅": "restaurant", "预订": "book reservation",
    "订单": "order", "发送": "send", "发": "send", "文件": "file", "图片": "image picture",
    "音乐": "music song", "播放": "play", "汇率": "exchange rate currency", "用户": "user",
    "客户": "customer", "数据库": "database sql", "创建": "create", "删除": "delete", "开灯": "light",
    "灯": "light", "加": "add", "乘": "multiply",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as the request describes it."""

    name: str
    description: str
    parameters: JSONObject
    custom: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call: `arguments` is a JSON text, or the free input of a custom tool."""

    name: str
    arguments: str
    custom: bool = False


def choose_calls(asked: ChatAsked, prompt: Prompt) -> tuple[ToolCall, ...]:
    """Return the calls that a model would make now; none when it would answer in words."""
    mode, tools = _allowed(asked)
    answered = bool(asked.messages) and asked.messages[-1].get("role") in {"tool", "function"}
    if not tools or mode == "none" or (mode == "auto" and answered):
        return ()
    words = _words(prompt.text)
    for sign in set(find_sum(prompt.text) or "") & _SUMS.keys():
        words |= _SUMS[sign]
    scored = [(_score(tool, words, prompt.text), tool) for tool in tools]
    points, tool = max(scored, key=lambda pair: pair[0])
    if mode == "auto" and points < _ENOUGH:
        return ()
    return tuple(_calls(tool, prompt, parallel=asked.parallel_tool_calls is not False))


def _allowed(asked: ChatAsked) -> tuple[str, list[Tool]]:
    """Return `none`, `auto` or `required`, and the tools that may be called."""
    tools = [_tool(given) for given in asked.tools or ()]
    tools += [_function(given) for given in asked.functions or ()]
    choice = asked.tool_choice if asked.tool_choice is not None else asked.function_call
    if not isinstance(choice, dict):
        return choice or "auto", tools
    if choice.get("type") == "allowed_tools":
        given = choice.get("allowed_tools") or {}
        names = {_tool(tool).name for tool in given.get("tools") or ()}
        return str(given.get("mode", "auto")), [tool for tool in tools if tool.name in names]
    name = (choice.get("function") or choice.get("custom") or choice).get("name")
    return "required", [tool for tool in tools if tool.name == name]


def _tool(given: JSONObject) -> Tool:
    custom = given.get("custom")
    if isinstance(custom, dict):
        return Tool(str(custom.get("name", "")), str(custom.get("description") or ""), {}, custom=True)
    return _function(given.get("function") or {})


def _function(given: JSONObject) -> Tool:
    parameters = given.get("parameters")
    parameters = (
        parameters if isinstance(parameters, dict) and parameters else {"type": "object", "properties": {}}
    )
    return Tool(str(given.get("name", "")), str(given.get("description") or ""), parameters)


def _score(tool: Tool, words: set[str], text: str) -> int:
    """Return how much a prompt has to do with a tool."""
    points = 2 * len(_words(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", tool.name).replace("_", " ")) & words)
    points += len(_words(tool.description) & words)
    pairs = {tool.description[at : at + 2] for at in range(len(tool.description) - 1)}
    return points + sum(not pair.isascii() and pair.isalpha() and pair in text for pair in pairs)


def _words(text: str) -> set[str]:
    found = {word.removesuffix("s") for word in re.findall(r"[a-z]{2,}", text.lower()[:5000])}
    for chinese, english in _CHINESE.items():
        if chinese in text:
            found.update(english.split())
    return found - _GENERIC


def _calls(tool: Tool, prompt: Prompt, *, parallel: bool) -> list[ToolCall]:
    if tool.custom:
        return [ToolCall(tool.name, _free_input(prompt), custom=True)]
    kind = _repeated_kind(tool.parameters) if parallel else None
    times = min(len(Facts(prompt.text).all(kind)), _MAX_CALLS) if kind else 1
    calls = []
    for number in range(max(1, times)):
        facts = Facts(prompt.text)
        for _ in range(number):
            facts.take(kind or "")
        about = topic(prompt.text, prompt.language)
        filler = Filler(tool.parameters, facts, prompt.language, eager=False, about=about)
        calls.append(ToolCall(tool.name, _compact(filler.fill())))
    return calls


def _repeated_kind(parameters: JSONObject) -> str | None:
    """Return the kind of fact of which each gets a call of its own: a place or a person."""
    members = parameters.get("properties")
    if not isinstance(members, dict):
        return None
    kinds = [
        kind_of(name, str(member.get("description", "")))
        for name, member in members.items()
        if isinstance(member, dict) and member.get("type") == "string"
    ]
    return next((kind for kind in ("city", "name") if kinds.count(kind) == 1), None)


def _free_input(prompt: Prompt) -> str:
    fenced = re.search(r"```\w*\n(.*?)```", prompt.text, re.DOTALL)
    if fenced:
        return fenced[1]
    if run := _RUN.search(prompt.text):
        return run[1] or run[2]
    return find_sum(prompt.text) or Facts(prompt.text).take("quoted") or topic(prompt.text, prompt.language)


def _compact(value: object) -> str:
    return msgspec.json.encode(value).decode()


def tell_results(messages: Sequence[JSONObject], language: Language) -> str | None:
    """Return the results of the tools that were called last, in words; None when none was."""
    results: list[str] = []
    for message in reversed(messages):
        if message.get("role") not in {"tool", "function"}:
            break
        name = message.get("name") or _called(messages, message.get("tool_call_id"))
        told = _in_words(text_of(message.get("content")), language)
        results.append(TOOL_SAID[language].format(name=name, result=told.rstrip(".。")))
    return (" " if language == "en" else "").join(reversed(results)) or None


def _called(messages: Sequence[JSONObject], call_id: object) -> str:
    for message in reversed(messages):
        for call in message.get("tool_calls") or ():
            if isinstance(call, dict) and call.get("id") == call_id:
                return str((call.get("function") or call.get("custom") or {}).get("name", "tool"))
    return "tool"


def _in_words(result: str, language: Language) -> str:
    try:
        value: Any = msgspec.json.decode(result)
    except (msgspec.DecodeError, RecursionError):
        return result.strip()
    return _told(value, language, 0)


def _told(value: Any, language: Language, depth: int) -> str:
    comma, colon = (", ", ": ") if language == "en" else ("，", "：")
    if depth > 4:
        return _compact(value)
    if isinstance(value, dict):
        told = (f"{str(k).replace('_', ' ')}{colon}{_told(v, language, depth + 1)}" for k, v in value.items())
        return comma.join(told)
    if isinstance(value, list):
        return comma.join(_told(item, language, depth + 1) for item in value)
    return value if isinstance(value, str) else _compact(value)
