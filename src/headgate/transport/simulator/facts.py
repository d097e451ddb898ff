"""What a prompt plainly says: names, places, numbers, dates, addresses, and labelled values.

Tool arguments and structured output are taken from here. Each fact is given out once per answer, in
the order of the prompt, so that `Alice is 30 and Bob is 25` fills two people rightly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from headgate.transport.simulator.places import CITIES_EN, CITIES_ZH

if TYPE_CHECKING:
    from collections.abc import Sequence

_HAN = "[\u4e00-\u9fff]"
_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈"
    "姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
)
_AFTER_NAME = (
    r"(?=[，,、。;；\s)）“”\"']|今年|现年|的|和|与|跟|及|以及|是|住|在|来自|先生|女士|同学"
    r"|老师|岁|\d|[买购订要给写]|$)"
)
_PLAIN = {
    "email": re.compile(
        r"(?<![A-Za-z0-9_.+-])[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9-]{1,64}(?:\.[A-Za-z0-9-]{1,64}){1,8}"
    ),
    "url": re.compile(r"https?://[^\s\"'<>，。)]+|\bwww\.[^\s\"'<>，。)]+"),
    "date": re.compile(
        r"\d{4}-\d{1,2}-\d{1,2}(?:[T ]\d{1,2}:\d{2}(?::\d{2})?(?:Z|[+-]\d{2}:\d{2})?)?|\d{4}/\d{1,2}/\d{1,2}"
        r"|\d{4}年\d{1,2}月\d{1,2}[日号]|\d{1,2}月\d{1,2}[日号]"
        r"|(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?"
        r"|Sep(?:t(?:ember)?)?"
        r"|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\.?\s+\d{1,2}(?:st|nd|rd|th)?(?:,?\s+\d{4})?"
        r"|\d{1,2}(?:st|nd|rd|th)?\s+(?:of\s+)?(?:January|February|March|April|May|June|July|August|September"
        r"|October|November|December)(?:,?\s+\d{4})?"
        r"|\b(?:today|tonight|tomorrow|(?:next |this )?(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day)\b"
        r"|今天|明天|后天|大后天|(?:下|本|这)?(?:周|星期|礼拜)[一二三四五六日天]",
        re.IGNORECASE,
    ),
    "time": re.compile(
        r"\b\d{1,2}:\d{2}(?::\d{2})?(?:\s*[ap]\.?m\b\.?)?|\b\d{1,2}\s*[ap]\.?m\b\.?"
        r"|(?:上午|下午|晚上|早上|中午)?\d{1,2}[点时](?:\d{1,2}分|半)?",
        re.IGNORECASE,
    ),
    "code": re.compile(r"(?<![\w.@-])(?=[\w-]*\d)[A-Za-z0-9][A-Za-z0-9_-]{1,40}(?![\w.@-])", re.ASCII),
    "phone": re.compile(r"\+?\d[\d()（）-]{5,}\d(?:[\s-]\d{2,}){0,4}|\+\d{1,3}(?:[\s-]\d{2,}){2,5}"),
}
_NUMBER = re.compile(r"(?<![\w.])-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|(?<![A-Za-z_.\d])-?\d+(?:\.\d+)?")
_QUOTED = re.compile(
    r"\"([^\"\n]{1,400})\"|“([^”\n]{1,400})”|「([^」\n]{1,400})」|『([^』\n]{1,400})』"
    r"|《([^》\n]{1,80})》|(?<!\w)'([^'\n]{1,400})'(?!\w)"
)

_CAPITALS = re.compile(r"\b[A-Z][\w'’-]*(?:\s+(?:(?:de|van|von|of|bin|al)\s+)?[A-Z][\w'’.-]*)*")
_NAME_CUE = re.compile(
    r"\b(?:named?|called|name is|I am|I'm|I’m|Mr\.?|Mrs\.?|Ms\.?|Dr\.?|customer|user|by|from|contact"
    r"|author|for|to|with)\s+"
    r"(?:is\s+)?(?P<n>[A-Z][\w'’-]*(?:\s+[A-Z][\w'’-]*){0,2})"
)
_ZH_NAME_CUE = re.compile(
    rf"(?:姓名|名字|名叫|我叫|叫做|叫|我是|客户|联系人|用户|收件人|作者|学生|员工|病人|患者"
    rf"|给)[是为叫：:\s]*(?P<n>{_HAN}{{2,4}}?){_AFTER_NAME}"
)
_ZH_NAME = re.compile(
    rf"(?:^|(?<=[，,、。;；：:\s和与跟及(（“\"]))(?P<n>[{_SURNAMES}]{_HAN}{{1,2}}?){_AFTER_NAME}",
    re.MULTILINE,
)
_ZH_ROLE = re.compile(r"^(?:客户|联系人|用户|收件人|作者|学生|员工|病人|患者|老师|同学)")
_ZH_COMMON = (
    "金额 金融 高级 方案 方法 方式 方向 安排 白天 白色 万元 余额 程序 马上 周末 周一 周二 周三 周四 周五 "
    "周六 周日 常用 项目 时间 时候 何时 何地 任务 任何 毛利 江苏 江西 安徽 马路 高温 高度 黄色 黄金 许多 "
    "于是 龙头 孔子 平台 向量 向上 万一 戴着 段落 关于 程度 史料"
)
_ZH_WORDS = frozenset(_ZH_COMMON.split())
_COMMON = (
    "i a an the this that these those it he she we you they my his her our your their what which who "
    "when where why how is are was were do does did can could will would should shall may might must "
    "please extract generate create give tell write make find get list show return parse summarize "
    "summarise translate classify analyze analyse describe explain convert send book order schedule add "
    "set use call check look search what's whats it's let and or but if in on at for of to from with by "
    "as not no yes ok okay hello hi hey dear thanks json name monday tuesday wednesday thursday friday "
    "saturday sunday january february march april june july august september october november december "
    "today tomorrow tonight answer reply respond say user customer order product email phone address age "
    "date price weather event meeting then also both each any all some there here new mr mrs ms dr am pm "
    "usd eur cny rmb api ai id url sql html css http https python java javascript openai chatgpt"
)
_NOT_NAMES = frozenset(_COMMON.split())
_CITY_CUE = re.compile(
    r"\b(?:in|at|(?:weather|forecast|temperature|time)\s+for|to|from|near|of|around|visit|visiting"
    r"|between|over)\s+(?:the\s+city\s+of\s+)?"
    r"(?P<n>(?:[A-Z][\w'’.-]*)(?:\s+[A-Z][\w'’.-]*)*(?:,\s*[A-Z]{2}\b)?)"
)
_CITY_MORE = re.compile(
    r"\s*(?:,\s*and|,|and|or|&|to|vs\.?)\s+(?:in\s+"
    r"|for\s+)?(?P<n>(?:[A-Z][\w'’.-]*)(?:\s+[A-Z][\w'’.-]*)*(?:,\s*[A-Z]{2}\b)?)"
)
_CITY_LOWER = re.compile(
    r"\b(?:weather|temperature|forecast|time|hotels?|flights?)\b[\w\s]{0,20}?\b(?:in|at|for"
    r"|to)\s+(?!the\b|a\b|my\b|your\b|this\b)"
    r"(?P<n>[a-z][a-z'-]{2,})\b"
)
_ZH_CITY_CUE = re.compile(
    rf"(?:在|去|到|查询?|看看?|问问?|请问|飞|从)?(?P<n>{_HAN}{{2,4}}?)(?:市|县)?(?:的|今天|明天|后天"
    rf"|现在|当前|这周|本周|未来)*(?:天气|气温|温度)"
)
_ZH_CITY_NOISE = re.compile(
    r"^(?:请问|请|帮我|查询|查|看看|一下|今天|明天|后天|现在|今日|告诉我|的|我想知道|那里|这里|当地|外面)+"
)
_LIST_SPLIT = re.compile(r"\s*(?:,\s*and\b|[,，、;；]|\band\b|和|以及|与)\s*")


_READ = 8_000  # characters of a prompt that are looked at
_NUMBERS = 200  # numbers that are told apart
_LONG_SPACE = re.compile(r"\s{4,}")


class Facts:
    """The facts of one prompt, and which of them an answer has used."""

    __slots__ = ("_digits", "_found", "_spans", "_used", "hits", "text")

    def __init__(self, text: str) -> None:
        self.text = _LONG_SPACE.sub(" ", text[:_READ])
        self.hits = 0  # facts given out so far
        self._found: dict[str, list[str]] = {}
        self._used: dict[str, int] = {}
        self._spans: set[int] = set()
        self._digits: list[re.Match[str]] | None = None

    def all(self, kind: str) -> list[str]:
        """Return every fact of a kind, in the order of the prompt."""
        if kind not in self._found:
            self._found[kind] = list(_FINDERS[kind](self.text))
        return self._found[kind]

    def left(self, kind: str) -> int:
        """Return how many facts of a kind were not given out yet."""
        return len(self.all(kind)) - self._used.get(kind, 0)

    def take(self, kind: str) -> str | None:
        """Give out the next fact of a kind, or None when there is none left."""
        at = self._used.get(kind, 0)
        found = self.all(kind)
        if at >= len(found):
            return None
        self._used[kind] = at + 1
        self.hits += 1
        return found[at]

    def take_number(self, labels: Sequence[str] = (), *, whole: bool = False) -> float | None:
        """Give out the number next to one of the labels, or else the next one that is unused."""
        free = [m for m in self._numbers() if m.start() not in self._spans and not (whole and "." in m[0])]
        if not free:
            return None
        chosen = next((m for m in free if self._labelled(m, labels)), None)
        if chosen is None:
            claimed = [m for m in free if not self._labelled(m, _ANY_LABEL)]
            chosen = (claimed or free)[0]
        self._spans.add(chosen.start())
        self.hits += 1
        value = float(chosen[0].replace(",", ""))
        return int(value) if value.is_integer() and "." not in chosen[0] else value

    def numbers_left(self) -> int:
        """Return how many numbers were not given out yet."""
        return sum(m.start() not in self._spans for m in self._numbers())

    def labelled(self, labels: Iterable[str]) -> str | None:
        """Give out the value that the prompt writes behind one of the labels: `title: Dune`."""
        for label in labels:
            bound = r"(?<![A-Za-z])" if label[0].isascii() else ""
            pattern = (
                rf"{bound}{re.escape(label)}[\"”]?(?:\s*[：:=]\s*|\s*(?:\bis\b|\bare\b|为|是|叫)\s*[：:]?\s*)"
                rf"(?:\"([^\"\n]+)\"|“([^”\n]+)”|'([^'\n]+)'"
                rf"|([^\n,，;；。.!?！？]+(?:\.\d[^\n,，;；。.!?]*)?))"
            )
            found = re.search(pattern, self.text, re.IGNORECASE)
            if found:
                self.hits += 1
                return next(group for group in found.groups() if group is not None).strip()
        return None

    def listed(self, labels: Iterable[str]) -> list[str]:
        """Give out the list behind one of the labels: `colours: red, green and blue`."""
        for label in labels:
            found = re.search(
                rf"{re.escape(label)}\s*(?:[：:=]|\bare\b|有|包括|为|是)\s*([^\n.。!?！？]+)",
                self.text,
                re.IGNORECASE,
            )
            if found:
                self.hits += 1
                return [item.strip(" \"'“”") for item in _LIST_SPLIT.split(found[1]) if item.strip()]
        return []

    def _numbers(self) -> list[re.Match[str]]:
        if self._digits is not None:
            return self._digits
        masked = self.text
        for kind in ("url", "email", "date", "phone", "time"):
            masked = _PLAIN[kind].sub(lambda m: "_" * len(m[0]), masked)
        self._digits = list(_NUMBER.finditer(masked))[:_NUMBERS]
        return self._digits

    def _labelled(self, number: re.Match[str], labels: Sequence[str]) -> bool:
        """Say whether one of the labels stands right before or behind a number."""
        before = self.text[max(0, number.start() - 24) : number.start()].lower()
        behind = self.text[number.end() : number.end() + 16].lower()
        near = re.split(r"[,，;；。.!?\d]", before)[-1]
        after = re.split(r"[,，;；。.!?\d]", behind)[0]
        return any(label in near or after.lstrip(" -").startswith(label) for label in labels)


_ANY_LABEL = ("year-old", "years old", "岁", "$", "usd", "dollars", "元", "°", "%")


def _plain(kind: str) -> _Finder:
    return lambda text: (m[0].rstrip(".") for m in _PLAIN[kind].finditer(text))


def _phones(text: str) -> Iterable[str]:
    return (m[0] for m in _PLAIN["phone"].finditer(text) if not _PLAIN["date"].match(m[0]))


def _quoted(text: str) -> Iterable[str]:
    return (next(g for g in m.groups() if g) for m in _QUOTED.finditer(text))


def _cities(text: str) -> Iterable[str]:
    """Find places: known ones first, then what stands where a place would."""
    places: dict[int, str] = {}
    for found in CITIES_EN.finditer(text):
        places[found.start()] = _with_state(text, found)
    for found in CITIES_ZH.finditer(text):
        places[found.start()] = found[0]
    if not places:
        places = _guessed_cities(text)
    return dict.fromkeys(places[start] for start in sorted(places))


def _with_state(text: str, found: re.Match[str]) -> str:
    state = re.match(r",\s*[A-Z]{2}\b", text[found.end() :])
    name = found[0] if not found[0].islower() else found[0].title()
    return name + state[0] if state else name


def _guessed_cities(text: str) -> dict[int, str]:
    places: dict[int, str] = {}
    for cue in _CITY_CUE.finditer(text):
        if cue["n"].lower().split()[0] in _NOT_NAMES:
            continue
        places[cue.start("n")] = cue["n"].rstrip(".")
        more = _CITY_MORE.match(text, cue.end())
        while more:
            places[more.start("n")] = more["n"].rstrip(".")
            more = _CITY_MORE.match(text, more.end())
    lower = _CITY_LOWER.search(text)
    if not places and lower:
        places[lower.start("n")] = lower["n"].title()
    for cue in _ZH_CITY_CUE.finditer(text):
        name = _ZH_CITY_NOISE.sub("", cue["n"])
        if len(name) >= 2:
            places[cue.start("n")] = name
    return places


def _names(text: str) -> Iterable[str]:
    """Find people: what follows a cue, then what is written like a name."""
    spots: dict[int, str] = {}
    text = CITIES_EN.sub(lambda m: "_" * len(m[0]), text)
    for pattern in (_NAME_CUE, _ZH_NAME_CUE, _ZH_NAME):
        for found in pattern.finditer(text):
            name = _ZH_ROLE.sub("", _without_common_words(found["n"]))
            if len(name) >= 2 and name not in _ZH_WORDS and not CITIES_ZH.fullmatch(name):
                spots.setdefault(found.start("n"), name)
    for found in _CAPITALS.finditer(text):
        for name in re.split(r"\s+of\s+", found[0]):
            kept = _without_common_words(name.removesuffix("'s").removesuffix("’s"))
            if kept:
                spots.setdefault(found.start(), kept)
    return dict.fromkeys(spots[start] for start in sorted(spots))


def _without_common_words(name: str) -> str:
    words = name.strip(" .,'’").split()
    while words and words[0].lower().rstrip(".") in _NOT_NAMES:
        del words[0]
    while words and words[-1].lower().rstrip(".") in _NOT_NAMES:
        del words[-1]
    return " ".join(words)


_Finder = Callable[[str], Iterable[str]]
_FINDERS: Mapping[str, _Finder] = {
    "city": _cities,
    "name": _names,
    "quoted": _quoted,
    **{kind: _plain(kind) for kind in _PLAIN},
    "phone": _phones,
}
