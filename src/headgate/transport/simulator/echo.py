"""The instruction to say something: `say pong`, `reply with only 'ok'`, `只回答 好的`, `重复三遍`."""

from __future__ import annotations

import re

from headgate.transport.simulator.numerals import NUMERAL, number_of

_ENGLISH = re.compile(
    r"^(?P<lead>(?:(?:please|kindly|can you|could you|would you|will you|now|just|only|simply|ok|okay|hey|hi"
    r"|hello|you|must|should|i want you to|i need you to)\b[,\s]*)*)"
    r"(?P<verb>say|echo|repeat|reply|respond|answer|print|output|return|write|type)\b"
    r"(?P<how>(?:\s+(?:back|only|just|exactly|verbatim|with|to me|after me|by saying"
    r"|(?:the|this|these|a|one|exactly one)\s+(?:(?:single|exact|following|one|next)\s+)*"
    r"(?:words?|phrase|text|sentence|string|message|line|following|numbers?|digits?|letters?)(?=[\s:,])"
    r"|(?:following)(?=\s*[:：])))*)"
    r"\s*(?P<colon>[:：,])?\s*(?P<what>\S.*)$",
    re.IGNORECASE | re.DOTALL,
)
_ONLY = re.compile(r"\b(?:just|only|simply)\b", re.IGNORECASE)
_FREE_VERBS = frozenset({"say", "echo", "repeat"})
# "say something", "write a poem", "answer my question": an order to compose, not to repeat.
_COMPOSE = re.compile(
    r"(?:something|anything|nothing|everything|how|why|what|which|who|when|where|whether|a|an|me|in|about"
    r"|your|my|if|it|that|as|like|more|less|and|or|yes or no|all|some|no|to|for|of|from|on"
    r"|(?:valid )?json|markdown|code|yaml|xml|english|chinese|french|german|spanish|japanese)\b",
    re.IGNORECASE,
)
_AND_NOTHING_ELSE = re.compile(
    r"(?:[\s,;.]+(?:and\s+)?(?:nothing else|nothing more|no other (?:text|words?)|only|please|exactly"
    r"|verbatim"
    r"|back(?: to me)?|no (?:explanation|punctuation|markdown)|(?:with)?out (?:any )?\w+"
    r"|(?:do not|don't) (?:add|say|write|include|output)\b[^.]*))+[\s.!]*$",
    re.IGNORECASE,
)
_TIMES = re.compile(
    rf"[\s,]*(?:(?P<en>{NUMERAL})\s*times|(?P<twice>\b(?:once|twice)\b)"
    rf"|(?P<zh>{NUMERAL})\s*[遍次])\s*[.!。！]*$",
    re.IGNORECASE,
)
_CHINESE = re.compile(
    r"^(?:请你?|麻烦你?|帮我|你|现在|那么|好的?|只要?|仅|直接|原样|简单|就|用[中英]文|需要?|必须|应该"
    r"|[,，\s])*"
    r"(?P<verb>回复|回答|答复|说出|说|重复|复述|输出|返回|写出|写下|写|打印|念|跟我念|跟我说|跟着我说"
    r"|echo|say|print)"
    rf"\s*(?:(?P<times>{NUMERAL})\s*[遍次])?"
    r"(?P<how>(?:我|一下|一句|一遍|一声|一个|出|这个[词字]|这[句段]话|这[两二三四]个字|单词|数字|字母|只|仅|文字"
    r"|内容|为"
    r"|以下(?:内容|文字|的话|这句话)?(?=[:：,，\s“\"「])|下面的?(?:内容|话|文字"
    r"|这句话)?(?=[:：,，\s“\"「]))*)"
    r"\s*(?P<colon>[:：,，])?\s*(?P<what>\S.*)$",
    re.DOTALL | re.IGNORECASE,
)
_ANSWER = frozenset({"回答", "答复"})  # a question may follow: it is not to be repeated
_CHINESE_COMPOSE = re.compile(
    r"什么|怎么|为什么|如何|一[个些首篇段点份则]|[几两三四五六七八九十\d]+[个首篇段条点份则]|关于|我的"
    r"|我(?=[^们])|你(?!好)"
    r"|他|她|它|说|明|法|话|下|服|谎|客|理|到|是|的|问题|以下|下面|上面|代码|作文|[诗信]|json",
    re.IGNORECASE,
)
_CHINESE_NOTHING_ELSE = re.compile(
    r"(?:[,，。;；\s]*(?:即可|就行了?|就好了?|就可以了?|谢谢|吧"
    r"|(?:不要|不用|别|无需)(?:说|回复|回答|输出|加|有|解释|添加)?(?:任何)?(?:其[他它])?(?:的|内容|文字"
    r"|话|东西|解释|标点)*"
    r"|别的(?:什么)?都?(?:不要|别)(?:说|输出|回复)?))+[\s。!.！]*$"
)
_QUOTED = re.compile(r"(?P<a>[\"'`])(?P<x>.+?)(?P=a)(?![A-Za-z])|[“「『‘«](?P<y>.+?)[”」』’»]", re.DOTALL)
_LONG = 1_000  # characters; above, only a document behind a colon is repeated
_LONG_SPACE = re.compile(r"\s{4,}")
_ENDLESS_SPACE = re.compile(r"\s{40}")
_FULL_STOP = re.compile(r"[.。!?]")
_LOUD = re.compile(r"\b(?:upper ?case|all caps|capital letters|capitals)\b|大写", re.IGNORECASE)
_QUIET = re.compile(r"\blower ?case\b|小写", re.IGNORECASE)


def said(text: str) -> str | None:
    """Return what a text asks to be said, or None."""
    if len(text) > _LONG:
        return _long(text)
    text = _LONG_SPACE.sub(" ", text) if _ENDLESS_SPACE.search(text) else text
    return _english(text) or _chinese(text)


def _long(text: str) -> str | None:
    """Return the document that stands behind `repeat the following text:`."""
    for pattern in (_ENGLISH, _CHINESE):
        found = pattern.match(text[:300])
        if found and found["colon"]:
            return text[found.start("what") :].strip()
    return None


def _english(text: str) -> str | None:
    found = _ENGLISH.match(text)
    if not found:
        return None
    what = found["what"]
    quoted = _QUOTED.match(what)
    if quoted:
        return _styled(quoted["x"] or quoted["y"], what[quoted.end() :])
    plain = found["colon"] or found["how"].strip() or found["verb"].lower() in _FREE_VERBS
    if not plain and not (_ONLY.search(found["lead"]) and len(what.split()) <= 3):
        return None
    if not found["colon"] and (_COMPOSE.match(what) or len(what) > 400):
        return None
    return _unquoted(_AND_NOTHING_ELSE.sub("", what) or what, " ")


def _chinese(text: str) -> str | None:
    found = _CHINESE.match(text)
    if not found:
        return None
    what = found["what"]
    quoted = _QUOTED.match(what)
    if quoted:
        return _styled(quoted["x"] or quoted["y"], what[quoted.end() :])
    asks = found["verb"] in _ANSWER and what.endswith(("?", "？"))
    composes = _COMPOSE.match(what) or _CHINESE_COMPOSE.match(what)
    if asks or (composes and (not found["colon"] or found["verb"] in _ANSWER)):
        return None
    if not found["colon"] and len(what) > 60:
        return None
    word = _unquoted(_CHINESE_NOTHING_ELSE.sub("", what) or what, "")
    return word * _bounded(found["times"]) if word and found["times"] else word


def _unquoted(what: str, joiner: str) -> str | None:
    times = _TIMES.search(what)
    word = (what[: times.start()] if times else what).strip()
    if len(word) <= 60 and len(_FULL_STOP.findall(word)) == 1:
        word = word.rstrip(".。")  # it ends the instruction, not the word
    return _repeated(word, times, joiner) if word else None


def _styled(what: str, rest: str) -> str:
    """Apply what follows a quoted text: `in uppercase`, `three times`."""
    if _LOUD.search(rest):
        what = what.upper()
    elif _QUIET.search(rest):
        what = what.lower()
    return _repeated(what, _TIMES.search(rest), " " if what.isascii() else "")


def _repeated(word: str, times: re.Match[str] | None, joiner: str) -> str:
    return joiner.join([word] * _bounded(times["en"] or times["twice"] or times["zh"])) if times else word


def _bounded(times: str) -> int:
    return max(1, min(number_of(times) or 1, 1_000))
