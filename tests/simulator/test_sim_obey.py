"""Trivial instructions are obeyed, in English and Chinese; the rest is declined honestly."""

from __future__ import annotations

import time

import pytest
from tests.simulator.sim_upstream import Upstream

from headgate.transport.simulator.asked import plain_prompt
from headgate.transport.simulator.facts import Facts
from headgate.transport.simulator.jsonmode import json_answer
from headgate.transport.simulator.obey import obey

pytestmark = pytest.mark.anyio

OBEYED = [
    ("say pong", "pong"),
    ("Say 'this is a test'", "this is a test"),
    ("Say this is a test!", "this is a test!"),
    ("Reply with exactly: pong", "pong"),
    ("Reply with the single word pong and nothing else.", "pong"),
    ("Respond with only the word OK", "OK"),
    ("answer only ok", "ok"),
    ("just reply yes", "yes"),
    ("say hello three times", "hello hello hello"),
    ('Please say "hi there" in uppercase 2 times', "HI THERE HI THERE"),
    ("Print exactly: Hello, World!", "Hello, World!"),
    ("echo 🎉 中文 mixed", "🎉 中文 mixed"),
    ("Repeat the word data 5 times", "data data data data data"),
    ("Repeat the following text: The fox ran. It hid.", "The fox ran. It hid."),
    ("Reply with the number 42", "42"),
    ("Respond with only the letter B.", "B"),
    ("只回复数字 42", "42"),
    ("请输出字母B", "B"),
    ("回复 你好", "你好"),
    ("只回答 ok", "ok"),
    ("请只回复“收到”，不要说其他内容。", "收到"),
    ("请只回复收到，不要说其他内容。", "收到"),
    ("说你好", "你好"),
    ("重复三遍 你好", "你好你好你好"),
    ("请重复“你好”三遍", "你好你好你好"),
    ("请回复：你好，世界", "你好，世界"),
    ("输出 你好世界", "你好世界"),
    ("count to 5", "1, 2, 3, 4, 5"),
    ("count from 1 to 10", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"),
    ("Count from one to three, one per line", "1\n2\n3"),
    ("count down from 3", "3, 2, 1"),
    ("count down from 10 to 7", "10, 9, 8, 7"),
    ("从1数到5", "1、2、3、4、5"),
    ("从一数到十", "1、2、3、4、5、6、7、8、9、10"),
    ("从5倒数到1", "5、4、3、2、1"),
    ("请从1到3数数", "1、2、3"),
    ("What is 2+2?", "4"),
    ("what is twelve times 4", "48"),
    ("What is (3 + 4) * 2 / 7?", "2"),
    ("10/4=?", "2.5"),
    ("1+1等于几？", "2"),
    ("12 乘以 4 等于多少", "48"),
    ("计算 3.5 + 4", "7.5"),
    ("reverse 'abc'", "cba"),
    ("把“hello”倒过来", "olleh"),
    ("uppercase hello", "HELLO"),
    ("convert 'Hello World' to lowercase", "hello world"),
    ("把 hello 转换成大写", "HELLO"),
    ("ping", "pong"),
]
DECLINED = [
    "What is the capital of France?",
    "write a poem about the sea",
    "Say something nice",
    "Answer my question about canals",
    "Translate 'hello' to French",
    "What did sales count from 1990?",
    "what date is 2024-01-05?",
    "Answer in one word: what color is the sky",
    "1/0=?",
    "说说你的看法",
    "说明 Python 列表",
    "解释Python列表",
    "写一首诗",
    "回答我的问题",
    "用中文回答：什么是海？",
    "用一句话介绍杭州",
]


@pytest.mark.parametrize(("prompt", "answer"), OBEYED)
def test_a_trivial_instruction_is_obeyed(prompt: str, answer: str) -> None:
    assert obey(plain_prompt(prompt)) == answer


@pytest.mark.parametrize("prompt", DECLINED)
async def test_what_is_beyond_it_is_declined_in_the_prompts_language(upstream: Upstream, prompt: str) -> None:
    answer = await upstream.say(prompt)
    assert "Headgate" in answer
    assert "OPENAI_API_KEY" in answer
    assert "DASHSCOPE_API_KEY" in answer
    chinese = any("\u4e00" <= char <= "\u9fff" for char in prompt)
    assert ("模拟器" in answer) == chinese
    assert ("simulator" in answer) == (not chinese)


async def test_a_declined_prompt_is_named_in_a_few_words(upstream: Upstream) -> None:
    assert "“explain how canals work”" in await upstream.say("Please explain how canals work.")
    assert "“解释Python列表”" in await upstream.say("请解释Python列表")
    long = await upstream.say("Describe " + "very " * 300 + "long things")
    assert len(long) < 400


@pytest.mark.parametrize(
    ("greeting", "said"), [("Hello!", "Hello!"), ("hi there", "Hello!"), ("你好", "你好"), ("在吗？", "你好")]
)
async def test_a_greeting_is_returned(upstream: Upstream, greeting: str, said: str) -> None:
    answer = await upstream.say(greeting)
    assert answer.startswith(said)
    assert "Headgate" in answer


async def test_the_language_can_be_chosen(upstream: Upstream) -> None:
    assert "模拟器" in await upstream.say("Tell me a story. Answer in Chinese.")
    assert "simulator" in await upstream.say("讲个故事，用英文回答")
    messages = [{"role": "system", "content": "用中文回答"}, {"role": "user", "content": "Tell me a story"}]
    assert "模拟器" in await upstream.say("", messages=messages)


async def test_the_conversation_is_remembered(upstream: Upstream) -> None:
    def talk(*said: str) -> list[dict[str, str]]:
        turns = [{"role": "user", "content": text} for text in said]
        return [turn for user in turns for turn in (user, {"role": "assistant", "content": "ok"})][:-1]

    assert (
        await upstream.say("", messages=talk("Hi, my name is Alice.", "What is my name?"))
        == "Your name is Alice."
    )
    assert await upstream.say("", messages=talk("我叫王小明，今年20岁。", "我叫什么？")) == "你叫王小明。"
    assert "apples" in await upstream.say("", messages=talk("I like apples", "What did I just say?"))


async def test_a_system_prompt_that_fixes_the_answer_is_obeyed(upstream: Upstream) -> None:
    def ask(system: str, text: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": system}, {"role": "user", "content": text}]

    rule = "You are a bot. Always reply with 'pong'."
    assert await upstream.say("", messages=ask(rule, "Tell me a story")) == "pong"
    assert await upstream.say("", messages=ask("无论用户说什么，都只回复“好的”。", "讲个故事")) == "好的"
    assert await upstream.say("", messages=ask("Answer in uppercase.", "say hi")) == "HI"
    assert await upstream.say("", messages=ask("You are helpful.", "say hi")) == "hi"


async def test_parts_of_content_are_read_as_text(upstream: Upstream) -> None:
    parts = [
        {"type": "text", "text": "say pong"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    assert await upstream.say("", messages=[{"role": "user", "content": parts}]) == "pong"


HOSTILE = [
    "x",
    "1+",
    "从",
    "1",
    "和",
    "叫王",
    "a@",
    "count from ",
    "A B ",
    '"',
    '{"a":',
    "a,",
    "in A, ",
    "0 ",
    "，",
    "- ",
]
HOSTILE += ["12:", "1月", "+1 ", "say ", "and nothing else ", "不要", "((", "提取a、", "字段"]


@pytest.mark.parametrize("unit", [*HOSTILE, "say pong" + " " * 15_000 + "x", "\n"])
def test_no_prompt_keeps_the_loop_for_long(unit: str) -> None:
    prompt = plain_prompt((unit * 16_000)[:16_000])
    started = time.process_time()
    obey(prompt)
    json_answer(prompt)
    facts = Facts(prompt.text)
    for kind in ("name", "city", "email", "phone", "date", "time", "url", "code", "quoted"):
        facts.all(kind)
    facts.take_number(("age",))
    assert time.process_time() - started < 0.5  # quadratic steps took seconds
