"""What the simulator says of itself, in English and Chinese."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.transport.simulator.asked import Language, Prompt

_CANNOT = {
    "en": (
        "This is Headgate's simulator, not a real model{asked}. Set OPENAI_API_KEY (or another provider's "
        "variable, such as DEEPSEEK_API_KEY or DASHSCOPE_API_KEY) and restart Headgate to connect a real one."
    ),
    "zh": (
        "这里是 Headgate 的模拟器，不是真正的模型{asked}。请设置 OPENAI_API_KEY（或其他服务商的变量，"
        "如 DEEPSEEK_API_KEY、DASHSCOPE_API_KEY）并重启 Headgate，即可接入真实模型。"
    ),
}
_ASKED = {"en": ", so it cannot answer “{topic}”", "zh": "，无法回答“{topic}”"}
HELLO = {
    "en": "Hello! I am Headgate's simulator. How can I help you?",
    "zh": "你好！我是 Headgate 的模拟器，有什么可以帮你？",
}
WHO = {
    "en": "I am Headgate's simulator: I follow simple instructions and count tokens like a real model. "
    "Set OPENAI_API_KEY and restart Headgate to talk to one.",
    "zh": "我是 Headgate 的模拟器：能执行简单的指令，并像真实模型一样计算 token。"
    "设置 OPENAI_API_KEY 并重启 Headgate，即可与真实模型对话。",
}
THANKS = {"en": "You're welcome!", "zh": "不客气！"}
NAME_IS = {"en": "Your name is {name}.", "zh": "你叫{name}。"}
YOU_SAID = {"en": "You said: “{text}”", "zh": "你刚才说：“{text}”"}
TOOL_SAID = {"en": "{name} returned: {result}.", "zh": "{name} 的结果：{result}。"}
REFUSAL = {"en": "I'm sorry, but I can't help with that.", "zh": "抱歉，我无法协助处理这个请求。"}

_LEAD = re.compile(
    r"^(?:(?:please|kindly|can you|could you|would you|tell me|hi|hello|hey)\b[\s,]*|请问?|帮我|麻烦你?"
    r"|[\s,，:：]+)+",
    re.IGNORECASE,
)
_PROSE = (
    "the water in the canal is clear and the gate is open so it can flow to the town and the field where "
    "it will be used for the day and then go back to the river with what is left of it and"
)
_FILLER = _PROSE.split()


def cannot(prompt: Prompt) -> str:
    """Say that the prompt is beyond the simulator, and what connects a real model."""
    short = topic(prompt.text, prompt.language)
    asked = _ASKED[prompt.language].format(topic=short) if short else ""
    return _CANNOT[prompt.language].format(asked=asked)


def topic(text: str, language: Language) -> str:
    """Return the prompt's matter in a few words."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    line = _LEAD.sub("", line.strip()).rstrip("?。？!！.,，;；:： ")
    if language == "zh":
        return line if len(line) <= 24 else line[:22] + "…"
    words = line.split()
    short = " ".join(words[:10])
    return (short[:80] + "…") if len(short) > 80 or len(words) > 10 else short


def filler(words: int) -> str:
    """Return plain prose of so many words, each of them one token in OpenAI's vocabularies."""
    rounds, rest = divmod(words, len(_FILLER))
    return " ".join(_FILLER * rounds + _FILLER[:rest])
