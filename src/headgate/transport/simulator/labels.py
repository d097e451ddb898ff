"""What the members of a schema are about, by their names and descriptions, English and Chinese."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.transport.simulator.asked import Language

# (kind of fact, words of a member's name, words of its description or of a Chinese name)
_KINDS = (
    ("email", r"e_?mails?|mail", r"e-?mail|邮箱|电子邮件|邮件地址"),
    ("phone", r"phones?|tel|telephone|mobile|cell", r"phone|电话|手机"),
    ("url", r"urls?|links?|websites?|uri|homepage|href", r"\bURL\b|网址|链接"),
    (
        "date",
        r"dates?|day|birthday|birthdate|deadline|due|when|departure_date|checkin|checkout",
        r"\bdate\b|日期|哪天",
    ),
    ("time", r"time|times|hour|clock", r"时间"),
    (
        "city",
        (
            r"city|cities|locations?|places?|towns?|destinations?|origin|departure|arrival|from|to|where"
            r"|region|address"
        ),
        r"\bcity\b|\bcities\b|location|城市|地点|地区|位置|目的地|出发地|地址",
    ),
    (
        "name",
        (
            r"names?|person|people|authors?|customers?|users?|contacts?|recipients?|participants?|attendees?"
            r"|speakers?|students?|employees?|players?|guests?|patients?|owner|sender|who"
        ),
        r"person|people|姓名|名字|人名|参与者|客户|联系人",
    ),
    ("code", r"ids?|sku|tracking|serial|isbn|plate|reference", r"单号|编号|订单号|identifier|\bID\b"),
    (
        "number",
        r"age|price|cost|amount|quantity|qty|count|total|year|score|temperature|number|num",
        r"年龄|价格|金额|数量",
    ),
)
_KIND_PATTERNS = tuple(
    (kind, re.compile(rf"(?:^|_)(?:{key})(?:_|$)"), re.compile(text, re.IGNORECASE))
    for kind, key, text in _KINDS
)
_THING = re.compile(
    r"(?:^|_)(?:product|event|company|file|item|project|book|movie|song|team|dish|recipe|restaurant"
    r"|hotel|store|brand|model)_name"
)
_TEXT = re.compile(
    r"(?:^|_)(?:query|queries|question|prompt|text|message|content|body|input|search|keywords?|topic"
    r"|subject|title|summary"
    r"|description|task|instruction|note|notes|command|code|term|expression|equation|formula|sql|answer"
    r"|reply|response"
    r"|explanation|reason|reasoning|thought|thoughts|output|result|final_answer|analysis|details?)(?:_|$)"
)
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "name": ("name", "姓名", "名字", "名称", "名叫"),
    "age": ("age", "years old", "year-old", "岁", "年龄"),
    "email": ("email", "e-mail", "邮箱", "邮件"),
    "phone": ("phone", "tel", "mobile", "电话", "手机"),
    "city": ("city", "城市", "住址"),
    "address": ("address", "地址"),
    "date": ("date", "日期"),
    "time": ("time", "时间"),
    "price": ("price", "cost", "$", "usd", "dollars", "¥", "元", "块", "价格", "单价"),
    "cost": ("cost", "price", "$", "usd", "dollars", "¥", "元", "费用"),
    "amount": ("amount", "$", "usd", "dollars", "¥", "元", "金额", "total"),
    "total": ("total", "sum", "总", "合计"),
    "quantity": ("quantity", "qty", "个", "件", "数量", "只", "本", "台", "pieces", "units", "copies"),
    "count": ("count", "个", "数量"),
    "title": ("title", "标题", "书名", "题目"),
    "year": ("year", "年"),
    "temperature": ("temperature", "°", "degrees", "度", "温度", "气温"),
    "days": ("days", "day", "天"),
    "hours": ("hours", "hour", "小时"),
    "minutes": ("minutes", "minute", "min", "分钟"),
    "company": ("company", "公司"),
    "country": ("country", "国家"),
    "job": ("job", "occupation", "职业", "works as a", "works as an"),
    "gender": ("gender", "sex", "性别"),
    "color": ("color", "colour", "颜色"),
    "tags": ("tags", "标签"),
    "hobbies": ("hobbies", "likes", "爱好", "喜欢"),
    "ingredients": ("ingredients", "食材", "配料"),
    "skills": ("skills", "技能"),
}
_DEFAULTS: Mapping[str, tuple[str, str]] = {
    "email": ("user@example.com", "user@example.com"),
    "phone": ("+1 555 0100", "13800000000"),
    "url": ("https://example.com/", "https://example.com/"),
    "date": ("2026-01-01", "2026-01-01"),
    "time": ("09:00", "09:00"),
    "city": ("Paris", "北京"),
    "name": ("Alice", "张伟"),
}


def kind_of(key: str, description: str) -> str | None:
    """Return the kind of fact that a member wants, `text` for prose, or None when it does not say."""
    snake = _snake(key)
    if _THING.search(snake):
        return "thing"
    for kind, name, _ in _KIND_PATTERNS:
        if name.search(snake):
            return kind
    if _TEXT.search(snake):
        return "text"
    for kind, _, words in _KIND_PATTERNS:
        if words.search(key) or words.search(description):
            return kind
    return None


def labels_of(key: str) -> tuple[str, ...]:
    """Return what a prompt may call a member."""
    snake = _snake(key)
    words = snake.replace("_", " ").strip()
    found = [words, snake] if words != snake else [snake]
    for part in (snake, *reversed(snake.split("_"))):
        found.extend(_ALIASES.get(part, ()) or _ALIASES.get(part.removesuffix("s"), ()))
    return tuple(dict.fromkeys(label for label in found if label))


def default_of(kind: str | None, key: str, language: Language) -> str:
    """Return a plausible text where the prompt has none."""
    english, chinese = _DEFAULTS.get(kind or "", (_snake(key).replace("_", " ") or "text", key or "文本"))
    return chinese if language == "zh" else english


def _snake(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower().replace("-", "_").replace(" ", "_")
