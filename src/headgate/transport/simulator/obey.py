"""The trivial instructions that the simulator obeys: say, count, add, change case, greet, remember.

Each rule takes the prompt and returns the answer, or None when it does not apply; the first one that
applies answers. They are narrow on purpose: an instruction that is misunderstood is worse than the
plain statement that this is a simulator.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from headgate.transport.simulator.echo import said
from headgate.transport.simulator.numerals import NUMERAL, find_sum, number_of, work_out
from headgate.transport.simulator.sayings import HELLO, NAME_IS, THANKS, WHO, YOU_SAID

if TYPE_CHECKING:
    from headgate.transport.simulator.asked import Prompt

_COUNT_MAX = 2_000
_SHORT = 400  # characters; a longer prompt is a document, not an instruction
_LONG_SPACE = re.compile(r"\s{4,}")

_COUNT = (
    re.compile(
        rf"\bcount\w*(?:\s+(?:up|down|slowly|aloud|out loud))*(?:\s+from\s+(?P<a>{NUMERAL}))?"
        rf"\s+(?:up\s+|down\s+)?(?:to|through|until)\s+(?P<b>{NUMERAL})",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\b(?:numbers|integers)\s+(?:from\s+)?(?P<a>{NUMERAL})\s*(?:to|through|-|–)\s*(?P<b>{NUMERAL})",
        re.IGNORECASE,
    ),
    re.compile(rf"从\s*(?P<a>{NUMERAL})\s*(?:开始)?(?:倒?数|列|写|输出)\s*[到至]\s*(?P<b>{NUMERAL})"),
    re.compile(rf"从\s*(?P<a>{NUMERAL})\s*[到至]\s*(?P<b>{NUMERAL})\s*(?:的)?(?:整|数|报)"),
    re.compile(rf"(?:倒?数|输出|列出|写出|报)\s*(?P<a>{NUMERAL})?\s*[到至]\s*(?P<b>{NUMERAL})"),
)
_COUNTDOWN = re.compile(
    rf"\bcount\s*down\s+from\s+(?P<en>{NUMERAL})|从\s*(?P<zh>{NUMERAL})\s*(?:开始)?倒数", re.IGNORECASE
)
_PER_LINE = re.compile(r"per line|(?:own|new|separate) lines?|each line|每行|换行|一行一个", re.IGNORECASE)
_BY_SPACE = re.compile(r"separated by (?:a )?spaces?|用空格", re.IGNORECASE)

_SUM_CUE = re.compile(
    r"what(?:'s| is|s)\b|calculate|compute|solve|evaluate|equals?\b|how much|work out|=\s*[??]?\s*$"
    r"|等于|计算|多少|几|求|算",
    re.IGNORECASE,
)
_ONLY_SUM = re.compile(r"[\d\s.+*/×÷()（）xX-]+[=?？]*")

_CASE = (
    re.compile(
        r"^(?:(?:please|convert|change|make|turn|transform|put|write|say|print|rewrite)\s+)*(?P<what>.+?)\s+"
        r"(?:(?:to|in|into)\s+)?(?:all\s+)?(?P<case>upper|lower)[-\s]?case(?:\s+letters)?[.!]?$",
        re.IGNORECASE | re.DOTALL,
    ),
    re.compile(
        r"^(?P<case>upper|lower)[-\s]?case\s+(?:(?:this|the)\s+)?(?:(?:word|text|string)\b)?[:\s]*(?P<what>.+)$",
        re.IGNORECASE | re.DOTALL,
    ),
    re.compile(
        r"^(?:请|帮我)?[把将]?\s*(?P<what>.+?)\s*(?:转换?|变|改)(?:换|成|为|写成)*(?P<case>大|小)写[。!！]?$"
    ),
)
_REVERSE = (
    re.compile(
        r"^(?:please\s+)?reverse\s+(?:(?:the|this)\s+)?(?:(?:word|string|text)\b)?[:\s]*(?P<what>.+)$",
        re.IGNORECASE | re.DOTALL,
    ),
    re.compile(r"^(?:请|帮我)?(?:反转|倒置|翻转)(?:字符串|单词|文字)?[:：\s]*(?P<what>.+)$", re.DOTALL),
    re.compile(r"^(?:请|帮我)?[把将]\s*(?P<what>.+?)\s*(?:反转|倒过来|倒序).*$", re.DOTALL),
)
_QUOTED = re.compile(r"[\"“「『'‘`](.+?)[\"”」』'’`]", re.DOTALL)

_GREETING = re.compile(
    r"(?:hello|hi|hey|hiya|greetings|good (?:morning|afternoon|evening)|howdy)"
    r"(?:[\s,]+(?:there|world|again|everyone|assistant|chatgpt|gpt|headgate|bot))?(?:[\s,!.]+how are you)?"
    r"|how are you|(?:你好|您好|嗨|哈喽|哈啰|早上好|下午好|晚上好|早安|在吗|大家好)[呀啊吗世界,，\s]*",
    re.IGNORECASE,
)
_WHO = re.compile(
    r"(?:(?:hello|hi)[,!.\s]+)?(?:(?:who|what)(?: model)? are you|introduce yourself|tell me about yourself)"
    r"|(?:你好[,，!！\s]*)?(?:你是谁|你是什么(?:模型)?|(?:请|做个?)*自我介绍(?:一下)?|(?:请)?介绍一下你自己)",
    re.IGNORECASE,
)
_THANKS = re.compile(
    r"(?:many |ok,? )?(?:thanks|thank you|thx)(?: a lot| very much| so much)?|(?:多?谢谢|感谢)[你您]?",
    re.IGNORECASE,
)
_MY_NAME = re.compile(
    r"\b(?:[Mm]y name is|[Cc]all me|I'm|I am|I’m)\s+(?P<en>[A-Z][\w'-]*(?:\s+[A-Z][\w'-]*)?)"
    r"|我(?:的名字)?[叫是](?P<zh>[\u4e00-\u9fff]{2,4}?)(?=[,，。.!！;；\s]|$)"
)
_ASKS_NAME = re.compile(
    r"what(?:'s|’s| is|s) my name|do you (?:know|remember) my name|who am i"
    r"|我叫什么|我的名字(?:是什么|叫什么)|我是谁|记得我(?:叫|的名字)",
    re.IGNORECASE,
)
_ASKS_SAID = re.compile(
    r"what did i (?:just )?(?:say|ask|tell you|write)|what was my (?:last|previous) (?:message|question)"
    r"|我(?:刚才|刚刚|上一句|之前)(?:说|问)(?:了|的是)?(?:些)?什么",
    re.IGNORECASE,
)

_SYSTEM_RULE = re.compile(
    r"\b(?:always|only|exactly|no matter|regardless|whatever|every)\b|每次|始终|总是|只|无论|不管|一律",
    re.IGNORECASE,
)
_SYSTEM_LEAD = re.compile(
    r"^(?:you (?:must|should|will|can|are to|shall)|always|only|no matter what[^,，]*,|regardless[^,，]*,"
    r"|whatever[^,，]*,|无论[^,，]*[,，]|不管[^,，]*[,，]|每次都?|始终|总是|一律|你(?:必须|应该|要|会|只会)|都|\s)+",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|(?<=[。！？])|\n+")
_SYSTEM_UPPER = re.compile(r"\b(?:upper ?case|all caps|capital letters)\b|大写", re.IGNORECASE)


def obey(prompt: Prompt) -> str | None:
    """Return the answer to a trivial instruction, or None when it is not one."""
    answer = None
    if len(prompt.text) <= _SHORT:
        short = replace(prompt, text=_LONG_SPACE.sub(" ", prompt.text))
        answer = next((a for rule in _RULES if (a := rule(short)) is not None), None)
    if answer is None:
        answer = said(prompt.text)
    if answer is None and prompt.system:
        answer = _by_system(prompt.system)
    if answer is not None and _SYSTEM_UPPER.search(prompt.system):
        return answer.upper()
    return answer


def _count(prompt: Prompt) -> str | None:
    text = prompt.text
    found = next((f for pattern in _COUNT if (f := pattern.search(text))), None)
    if found:
        first, last = number_of(found["a"] or "1"), number_of(found["b"])
    elif down := _COUNTDOWN.search(text):
        first, last = number_of(down["en"] or down["zh"]), 1
    else:
        return None
    if first is None or last is None or abs(last - first) > _COUNT_MAX:
        return None
    step = 1 if last >= first else -1
    comma = "、" if prompt.language == "zh" else ", "
    joiner = "\n" if _PER_LINE.search(text) else " " if _BY_SPACE.search(text) else comma
    return joiner.join(str(number) for number in range(first, last + step, step))


def _sum(prompt: Prompt) -> str | None:
    text = prompt.text
    if not (_SUM_CUE.search(text) or _ONLY_SUM.fullmatch(text)):
        return None
    expression = find_sum(text)
    return work_out(expression) if expression else None


def _case(prompt: Prompt) -> str | None:
    found = next((f for pattern in _CASE if (f := pattern.match(prompt.text))), None)
    if not found:
        return None
    word = _bare(found["what"])
    return word.upper() if found["case"].lower() in {"upper", "大"} else word.lower()


def _reverse(prompt: Prompt) -> str | None:
    found = next((f for pattern in _REVERSE if (f := pattern.match(prompt.text))), None)
    return _bare(found["what"])[::-1] if found else None


def _bare(text: str) -> str:
    quoted = _QUOTED.search(text)
    return quoted[1] if quoted else text.strip().rstrip(".。").strip()


def _greet(prompt: Prompt) -> str | None:
    text = prompt.text.rstrip("!?.。！？~～ 😀👋")
    for pattern, answer in ((_GREETING, HELLO), (_WHO, WHO), (_THANKS, THANKS)):
        if pattern.fullmatch(text):
            return answer[prompt.language]
    return "pong" if text.lower() == "ping" else None


def _remember(prompt: Prompt) -> str | None:
    if _ASKS_NAME.search(prompt.text):
        for text in (*reversed(prompt.earlier), prompt.text, prompt.system):
            if found := _MY_NAME.search(text):
                return NAME_IS[prompt.language].format(name=found["en"] or found["zh"])
    if _ASKS_SAID.search(prompt.text) and prompt.earlier:
        return YOU_SAID[prompt.language].format(text=prompt.earlier[-1])
    return None


def _by_system(system: str) -> str | None:
    """Return what a system prompt orders to be said whatever is asked."""
    for sentence in _SENTENCE.split(system):
        if _SYSTEM_RULE.search(sentence):
            answer = said(_SYSTEM_LEAD.sub("", sentence.strip()))
            if answer is not None:
                return answer
    return None


_RULES = (_greet, _count, _case, _sum, _reverse, _remember)
