"""Calls as people send them, drawn from a seed, and what each really costs at most.

The costs come from the formulas that OpenAI has published (cookbook: messages, tools, images) over
tiktoken's counts, and share nothing with the code that makes holds.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from random import Random
from typing import Any

from headgate.money.catalogue import Catalogue
from headgate.money.prices import PriceBook
from headgate.money.vocab import Vocabularies
from headgate.values import Host, Model, Prices, Target, Usage

NOW = 1_795_000_000_000_000
CATALOGUE = Catalogue.load()
BOOK = PriceBook.load()
VOCABULARIES = Vocabularies()

ENGLISH = re.findall(
    r"\S+",
    "Our quarterly review covers revenue, churn and the roadmap. Please summarise the attached notes in five "
    "bullet points, keep every number, and don't invent anything; if a figure is missing, say so plainly. The "
    "customer wrote that the delivery arrived late, the box was damaged and nobody answered the phone.",
)
CHINESE = "请把下面的文章翻译成英文并总结三个要点，注意保留所有数字。客户反映物流太慢，包装破损，希望尽快退款。人工智能技术正在改变各行各业的工作方式"
EMOJI = ["😀", "👩🏽‍💻", "🏳️‍🌈", "🇨🇳", "❤️‍🔥", "🫠", "👨‍👩‍👧‍👦"]
CODE = "def total(rows):\n    return sum(row['price'] * row['count'] for row in rows if row.get('paid'))\n\n"
OTHER = [
    "Привет",
    "мир",
    "こんにちは世界",
    "안녕하세요",
    "مرحبا",
    "بالعالم",
    "สวัสดีชาวโลก",
    "∑∫√≠",
    "\u200b\u202e\ufeff",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "ÀÉÎõü",
]

HOSTS = {
    "openai": Host(name="openai", base_url="http://o", extras="refuse", completion_tokens=16),
    "deepseek": Host(name="deepseek", base_url="http://d", renames={"max_completion_tokens": "max_tokens"}),
    "anthropic": Host(name="anthropic", base_url="http://a"),
    "google": Host(name="google", base_url="http://g"),
    "groq": Host(name="groq", base_url="http://q"),
    "perplexity": Host(name="perplexity", base_url="http://p"),
}
CHAT_MODELS = [
    *(
        ("openai", name)
        for name in ("gpt-4o", "gpt-4o-mini", "gpt-5", "gpt-5-mini", "gpt-3.5-turbo", "gpt-4")
    ),
    *(("openai", name) for name in ("gpt-4.1", "gpt-4.1-mini", "gpt-5.4", "gpt-5.6-sol", "gpt-6-sol", "o3")),
    *(("deepseek", "deepseek-chat"), ("anthropic", "claude-sonnet-4-6"), ("google", "gemini-2.5-pro")),
    *(("groq", "llama-3.3-70b-versatile"), ("perplexity", "sonar"), ("groq", "mine")),
]
# Two price lists that no maker has: each part can be the dearest, and the long band begins early.
OWN = Prices(2_000_000, 3_000_000, 500_000, 5_000_000, 9_000_000, 2_000_000, 3_000_000, 7_000_000)
BANDS = Prices(
    *(1_000_000, 2_000_000, 100_000, 1_250_000, 2_000_000, 1_000_000, 2_000_000, 0, 300),
    Prices(4_000_000, 8_000_000, 400_000, 5_000_000, 8_000_000, 4_000_000, 8_000_000),
)


def target(provider: str, name: str, prices: Prices | None = None) -> Target:
    """Return a target with the shipped facts and prices, or with prices of its own."""
    row = BOOK.find(provider, name, NOW)
    found = prices or (row.prices if row is not None else OWN)
    return Target(host=HOSTS[provider], model=CATALOGUE.model(provider, name), prices=found, costs=found)


@dataclass
class Case:
    """One generated request, its targets, and what was put into it that no body shows."""

    operation: str
    body: dict[str, Any]
    targets: tuple[Target, ...]
    tiles: list[int] = field(default_factory=list)  # of each image; 0: low detail

    @property
    def says_a_limit(self) -> bool:
        return any(name in self.body for name in ("max_tokens", "max_completion_tokens"))


def text(random: Random, words: int) -> str:
    """Return a text in one of the ways in which people write."""
    kind = random.choices("ecjmro", (50, 20, 5, 12, 8, 5))[0]
    if kind == "e":
        return " ".join(random.choice(ENGLISH) for _ in range(words))
    if kind == "c":
        return "".join(random.choice(CHINESE) for _ in range(words * 2))
    if kind == "j":
        return "".join(random.choice(EMOJI) for _ in range(words // 2 + 1))
    if kind == "m":
        return CODE * (words // 30 + 1)
    if kind == "o":
        return " ".join(random.choice(OTHER) for _ in range(words))
    spaces = ["\n", "  ", "\t", "\r\n", "\\", '"', "\x00", "0", "ab", "é", "字", "\U00010348"]
    return "".join(random.choice(spaces) for _ in range(words * 3))


def _tool(random: Random, index: int) -> dict[str, Any]:
    names = ["city", "unit", "数量", "when"][: random.randint(0, 4)]
    properties: dict[str, Any] = {}
    for name in names:
        properties[name] = {"type": "string", "description": text(random, random.randint(1, 12))}
        if random.random() < 0.3:
            properties[name]["enum"] = [text(random, 1) for _ in range(3)]
    parameters = {"type": "object", "properties": properties, "required": names}
    return {
        "name": f"tool_{index}",
        "description": text(random, random.randint(1, 30)),
        "parameters": parameters,
    }


def _image(random: Random, case: Case) -> dict[str, Any]:
    detail = random.choice(["low", "high", "auto", None])
    case.tiles.append(0 if detail == "low" else random.randint(1, 8))
    url = random.choice(["https://example.com/a.png", "data:image/png;base64," + "iVBOR" * 400])
    return {"type": "image_url", "image_url": {"url": url} | ({"detail": detail} if detail else {})}


def _turns(random: Random, case: Case) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    if random.random() < 0.5:
        turns.append({"role": random.choice(["system", "developer"]), "content": text(random, 20)})
    for index in range(random.choices((1, 2, 4, 9), (60, 20, 15, 5))[0]):
        words = random.choices((1, 8, 60, 400, 3_000), (10, 25, 40, 23, 2))[0]
        turn: dict[str, Any] = {"role": "user", "content": text(random, words)}
        if random.random() < 0.1:
            turn["name"] = random.choice(["ann", "example_user", "b" * 64])
        if random.random() < 0.12:
            turn["content"] = [{"type": "text", "text": turn["content"]}, _image(random, case)]
        turns.append(turn)
        if index and random.random() < 0.4:
            turns += _tool_turns(random, index)
        elif random.random() < 0.3:
            turns.append({"role": "assistant", "content": text(random, 30)})
    return turns


def _tool_turns(random: Random, index: int) -> list[dict[str, Any]]:
    arguments = json.dumps({"city": text(random, 2)}, ensure_ascii=random.random() < 0.5)
    call = {"id": f"call_{index}", "type": "function", "function": {"name": "tool_0", "arguments": arguments}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"call_{index}", "content": text(random, 10)},
    ]


def _targets(random: Random) -> tuple[Target, ...]:
    chosen = random.sample(CHAT_MODELS, random.choices((1, 2, 3), (70, 20, 10))[0])
    return tuple(
        target(provider, name, random.choice([OWN, BANDS]) if random.random() < 0.1 else None)
        for provider, name in chosen
    )


def chat(random: Random) -> Case:
    """Return a conversation with whatever may come with one."""
    case = Case("chat", {}, _targets(random))
    case.body = body = {"model": "m", "messages": _turns(random, case)}
    if random.random() < 0.6:
        name = random.choice(["max_tokens", "max_completion_tokens"])
        body[name] = random.choice([1, 16, 64, 100, 256, 500, 1_000, 4_000])
    if random.random() < 0.15:
        body["n"] = random.randint(1, 5)
    if random.random() < 0.15:
        body["tools"] = [
            {"type": "function", "function": _tool(random, i)} for i in range(random.randint(1, 6))
        ]
        body["tool_choice"] = random.choice(["auto", {"type": "function", "function": {"name": "tool_0"}}])
    elif random.random() < 0.05:
        body["functions"] = [_tool(random, 0)]
    if random.random() < 0.1:
        schema = {"name": "x", "strict": True, "schema": _tool(random, 0)["parameters"]}
        body["response_format"] = random.choice(
            [{"type": "json_object"}, {"type": "json_schema", "json_schema": schema}]
        )
        body["messages"].append({"role": "user", "content": "as json"})  # the word must be there
    if random.random() < 0.1:
        body["logit_bias"] = {str(random.randint(0, 90_000)): -100 for _ in range(5)}
    if random.random() < 0.05:
        body["prediction"] = {"type": "content", "content": text(random, 100)}
    if random.random() < 0.05 and all(each.host.extras == "pass" for each in case.targets):
        body["context"] = text(random, 200)
    return case


def completion(random: Random) -> Case:
    """Return an old-style completion."""
    prompts = [text(random, random.choice((1, 20, 300))) for _ in range(random.choice((1, 1, 3)))]
    body: dict[str, Any] = {"model": "m", "prompt": prompts if len(prompts) > 1 else prompts[0]}
    if random.random() < 0.6:
        body["max_tokens"] = random.choice([0, 5, 16, 100, 500])
    if random.random() < 0.2:
        body |= random.choice([{"n": 3}, {"best_of": 4}, {"echo": True}, {"suffix": text(random, 9)}])
    return Case("completions", body, (target("openai", "gpt-3.5-turbo-instruct"),))


def embedding(random: Random) -> Case:
    """Return texts to embed."""
    texts = [text(random, random.choice((1, 30, 300))) for _ in range(random.choice((1, 1, 5, 40)))]
    return Case("embeddings", {"model": "m", "input": texts}, (target("openai", "text-embedding-3-small"),))


def draw(seed: int) -> Case:
    """Return the case of a seed."""
    random = Random(seed)
    return random.choices((chat, completion, embedding), (85, 10, 5))[0](random)


# ── what it really costs ────────────────────────────────────────────────────────────────────────


def count(encoding: str, given: str) -> int:
    """Return the tokens of a text."""
    VOCABULARIES.load_now(encoding)
    return VOCABULARIES.count_text(encoding, given)


def _encoding(model: Model, random: Random) -> str:
    return model.tokenizer or random.choice(["o200k_base", "cl100k_base"])  # a byte-level one of its own


def _image_tokens(model: Model, tiles: int) -> int:
    """Return OpenAI's published tokens of an image of so many tiles; patches for the newer models."""
    if model.name == "gpt-4o-mini":
        return 2_833 + 5_667 * tiles
    if model.name in {"gpt-5", "o3"}:
        return (70 + 140 * tiles) if model.name == "gpt-5" else (75 + 150 * tiles)
    if model.image_tokens > 2_000:
        return 1_536 * 162 // 100 if tiles else 256
    return 85 + 170 * tiles


def _tool_tokens(encoding: str, tools: list[dict[str, Any]]) -> int:
    """Return the tokens of tools by OpenAI's cookbook."""
    init = 7 if encoding == "o200k_base" else 10
    total = 12
    for tool in tools:
        total += init + count(encoding, f"{tool['name']}:{tool['description']}")
        properties = tool["parameters"]["properties"]
        total += 3 if properties else 0
        for name, given in properties.items():
            total += 3 + count(encoding, f"{name}:{given['type']}:{given['description']}")
            if "enum" in given:
                total += -3 + sum(3 + count(encoding, value) for value in given["enum"])
    return total


def _message_tokens(encoding: str, message: dict[str, Any]) -> int:
    total = 3 + count(encoding, message["role"])
    content = message.get("content")
    for part in [{"text": content}] if isinstance(content, str) else content or []:
        total += count(encoding, part.get("text", ""))
    if "name" in message:
        total += 1 + count(encoding, message["name"])
    for call in message.get("tool_calls", ()):
        function = call["function"]
        total += 8 + count(encoding, function["name"]) + count(encoding, function["arguments"])
    return total + (4 if message["role"] == "tool" else 0)


def input_tokens(case: Case, to: Target, random: Random) -> int:
    """Return the input's tokens as the provider counts them."""
    encoding, body = _encoding(to.model, random), case.body
    if case.operation != "chat":
        given = body.get("prompt", body.get("input"))
        given = given if isinstance(given, list) else [given]
        return (
            sum(count(encoding, item) for item in given)
            + 3 * bool(body.get("suffix"))
            + count(encoding, body.get("suffix", ""))
        )
    template = 0 if to.model.exact else random.choice([0, 20, 100])  # a system prompt of the maker's own
    total = 3 + template + sum(_message_tokens(encoding, message) for message in body["messages"])
    total += sum(_image_tokens(to.model, tiles) for tiles in case.tiles)
    tools = [tool["function"] for tool in body.get("tools", ())] + body.get("functions", [])
    if tools:
        total += _tool_tokens(encoding, tools) + (0 if to.model.exact else random.choice([0, 150, 530]))
    if isinstance(body.get("tool_choice"), dict):
        total += 6
    if body.get("response_format", {}).get("type") == "json_schema":
        total += 16 + count(encoding, json.dumps(body["response_format"]["json_schema"], ensure_ascii=False))
    return total + count(encoding, body.get("context", ""))


def output_tokens(case: Case, to: Target, sent: dict[str, Any]) -> int:
    """Return the most that the provider makes of the request that was sent, over all choices."""
    if case.operation == "embeddings":
        return 0
    limit = sent.get("max_completion_tokens", sent.get("max_tokens"))
    if limit is None and case.operation == "completions":
        limit = 16
    elif limit is None:
        limit = to.model.max_output or to.model.context_window or 1_000_000
    choices = max(case.body.get("n", 1), case.body.get("best_of", 1))
    if isinstance(case.body.get("prompt"), list):
        choices *= len(case.body["prompt"])
    rejected = count("o200k_base", case.body.get("prediction", {}).get("content", ""))
    return choices * (limit + rejected)


def usage(given: int, made: int, random: Random) -> Usage:
    """Return a usage of these totals, split in some way."""
    cached = random.choice([0, 0, given // 2, given])
    written = random.choice([0, 0, given - cached])
    return Usage(given, made, cached, written, random.choice([0, 0, made // 3, made]))
