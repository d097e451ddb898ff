import asyncio
import gzip
import os
import re
import shutil
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings, strategies as st

from headgate.money.catalogue import Catalogue
from headgate.money.pricedata import DATA
from headgate.money.tokens import SLACK, Tokenizers, bytes_bound, estimate_text
from headgate.money.vocab import ENCODINGS, LONGEST_RUN, LONGEST_WORD, Vocabularies, pieces

CATALOGUE = Catalogue.load()
TOKENIZERS = Tokenizers()
for _name in ENCODINGS:
    TOKENIZERS.load_now(_name)

GPT_4O = CATALOGUE.model("openai", "gpt-4o")
GPT_35 = CATALOGUE.model("openai", "gpt-3.5-turbo")
GPT_5 = CATALOGUE.model("openai", "gpt-5")
DEEPSEEK = CATALOGUE.model("deepseek", "deepseek-chat")
UNKNOWN = CATALOGUE.model("nobody", "some-model")

# From OpenAI's cookbook, "How to count tokens with tiktoken": a conversation, and what the API
# counted for it.
COOKBOOK = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant that translates corporate "
        "jargon into plain English.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "New synergies will help drive top-line growth.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Things working well together will increase revenue.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on opportunities "
        "for increased leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client deliverable.",
    },
]
HELLO = [
    {"role": "developer", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Hello!"},
]


def chat(model, messages, **members):
    return TOKENIZERS.count_input(model, "chat", {"messages": messages, **members})


@pytest.mark.parametrize(
    ("encoding", "text", "ids"),
    [
        ("cl100k_base", "tiktoken is great!", [83, 1609, 5963, 374, 2294, 0]),
        ("cl100k_base", "hello world", [15339, 1917]),
        ("o200k_base", "hello world", [24912, 2375]),
        ("cl100k_base", "", []),
        ("o200k_base", "<|endoftext|>", [27, 91, 419, 1440, 919, 91, 29]),
    ],
)
def test_golden_token_ids(encoding, text, ids):
    assert TOKENIZERS.encode(encoding, text) == ids
    assert TOKENIZERS.decode(encoding, ids).decode() == text


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_encodings_are_those_of_the_installed_tiktoken(name):
    from tiktoken_ext import openai_public

    pinned = {}

    def local(url, expected_hash):
        pinned[url.rpartition("/")[2]] = expected_hash
        return {}

    constructor = openai_public.ENCODING_CONSTRUCTORS[name]
    scope = {**vars(openai_public), "load_tiktoken_bpe": local}
    theirs = type(constructor)(constructor.__code__, scope)()
    assert pinned == {f"{name}.tiktoken": ENCODINGS[name].sha256}
    assert theirs["pat_str"] == ENCODINGS[name].pattern
    assert theirs["special_tokens"] == ENCODINGS[name].special_tokens


@pytest.mark.parametrize(("model", "tokens"), [("gpt-3.5-turbo", 129), ("gpt-4", 129)])
def test_the_cookbook_s_conversation_counts_as_the_api_counted_it(model, tokens):
    count = TOKENIZERS.count_chat(CATALOGUE.model("openai", model), COOKBOOK)
    assert (count.tokens, count.exact) == (tokens, True)


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4o-mini"])
def test_the_cookbook_s_conversation_counts_as_gpt_4o_counted_it(model):
    count = TOKENIZERS.count_chat(CATALOGUE.model("openai", model), COOKBOOK)
    assert (count.tokens, count.exact) == (124, True)


def test_the_reference_s_hello_is_19_tokens_and_one_fewer_for_a_model_that_reasons():
    assert chat(GPT_4O, HELLO).tokens == 19
    assert chat(GPT_5, HELLO).tokens == 18


def test_the_formula_is_3_and_3_for_each_message_and_1_for_a_name():
    def texts(text):
        return TOKENIZERS.count_text("o200k_base", text)

    expected = 3
    for message in COOKBOOK:
        expected += 3 + texts(message["role"]) + texts(message["content"])
        expected += 1 + texts(message["name"]) if "name" in message else 0
    assert chat(GPT_4O, COOKBOOK).tokens == expected


def test_gpt_6_is_counted_with_o200k_and_marked_as_an_estimate():
    count = chat(CATALOGUE.model("openai", "gpt-6-sol"), HELLO)
    assert (count.tokens, count.exact) == (18, False)


@pytest.mark.parametrize(
    "extra",
    [
        {"tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}]},
        {"functions": [{"name": "weather"}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
        {"web_search_options": {}},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_what_has_no_public_formula_is_an_estimate_with_a_higher_bound(extra):
    plain, count = chat(GPT_4O, HELLO), chat(GPT_4O, HELLO, **extra)
    assert plain.exact
    assert not count.exact
    assert count.tokens > plain.tokens
    assert count.bound - plain.bound >= count.tokens - plain.tokens


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "assistant", "audio": {"id": "audio_1"}},
        {"role": "assistant", "content": None, "refusal": "no"},
        {"role": "assistant", "content": "x", "reasoning_content": "thinking"},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "A" * 640}}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_data": "A" * 800}}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]},
        {"role": "user", "content": [{"type": "something_new", "x": 1}]},
    ],
)
def test_messages_that_are_not_plain_text_are_estimates(message):
    count = chat(GPT_4O, [*HELLO, message])
    assert not count.exact
    assert chat(GPT_4O, HELLO).tokens < count.tokens <= count.bound


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "refusal", "refusal": "no"}],
        [{"type": "text"}],
        [{"type": "image_url"}],
        [{"type": "input_audio"}],
        [{"type": "input_audio", "input_audio": 5}],
        [{"type": "input_audio", "input_audio": {"data": "https://example.com/a.mp3"}}],
        [{"type": "file", "file": None}],
        [{"type": "file", "file": {"file_data": "A" * 80_000}}],
        [{"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}],
        [{"type": None}],
        ["text"],
        [None],
        5,
        float("inf"),
        {"a": 1},
    ],
)
def test_every_odd_content_is_counted_roughly(content):
    empty = chat(UNKNOWN, [{"role": "user", "content": ""}])
    count = chat(UNKNOWN, [{"role": "user", "content": content}])
    assert not count.exact
    assert empty.tokens < count.tokens <= count.bound
    chat(GPT_4O, [{"role": "assistant", "content": content, "tool_calls": content, "function_call": content}])


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "https://example.com/a.mp3"}},
        {"type": "file", "file": {"file_data": "A" * 800}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
    ],
)
def test_what_the_request_does_not_show_is_bounded_by_the_window_only(part):
    message = {"role": "user", "content": [part]}
    assert chat(GPT_4O, [message]).bound == GPT_4O.context_window
    assert chat(UNKNOWN, [message]).bound >= 1_000_000


def test_a_tool_that_runs_at_the_provider_is_bounded_by_the_window_only():
    assert chat(GPT_4O, HELLO, tools=[{"type": "web_search"}]).bound == GPT_4O.context_window


@pytest.mark.parametrize("given", [[1.0, 2.0], [["a", 1]], [{}], 5, [None, "a"], True])
def test_odd_inputs_are_counted_roughly(given):
    model = CATALOGUE.model("openai", "davinci-002")
    assert TOKENIZERS.count_input(model, "completions", {"prompt": given}).tokens > 0


def test_one_text_part_counts_like_the_string():
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hello!"}]}]
    assert chat(GPT_4O, parts) == chat(GPT_4O, [{"role": "user", "content": "Hello!"}])


def test_an_image_is_bounded_by_the_most_that_the_model_makes_of_one():
    def image(model, **detail):
        part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", **detail}}
        return chat(model, [{"role": "user", "content": [part]}])

    empty = chat(GPT_4O, [{"role": "user", "content": []}])
    assert image(GPT_4O).bound - empty.bound == 1_445
    assert image(GPT_4O, detail="low").tokens - empty.tokens == 85
    assert not image(GPT_4O).exact
    mini = CATALOGUE.model("openai", "gpt-4o-mini")
    assert image(mini).bound > 48_000


@pytest.mark.parametrize("operation", ["embeddings", "completions"])
@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        ("hello world", 2),
        (["hello world", "tiktoken is great!"], 8),
        ([15339, 1917, 0], 3),
        ([[15339, 1917], [0]], 3),
        (["", "hello world"], 2),
    ],
)
def test_inputs_of_every_form_are_counted_exactly(operation, given, tokens):
    name = "text-embedding-3-small" if operation == "embeddings" else "davinci-002"
    model = CATALOGUE.model("openai", name)
    member = "input" if operation == "embeddings" else "prompt"
    count = TOKENIZERS.count_input(model, operation, {member: given})
    assert (count.tokens, count.exact, count.bound) == (tokens, True, tokens)


def test_a_completion_without_a_prompt_starts_from_one_token():
    model = CATALOGUE.model("openai", "davinci-002")
    assert TOKENIZERS.count_input(model, "completions", {}).tokens == 1
    assert not TOKENIZERS.count_input(model, "completions", {"prompt": "a", "suffix": "b"}).exact


texts = st.text(max_size=400)
conversations = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"]), "content": texts},
        optional={"name": st.text(min_size=1, max_size=10)},
    ),
    max_size=6,
)


@given(conversations)
@settings(deadline=None)
def test_the_bound_is_never_below_the_count_in_any_encoding(messages):
    exact = {model.name: chat(model, messages) for model in (GPT_4O, GPT_35, GPT_5)}
    for count in exact.values():
        assert count.exact
        assert count.tokens <= count.bound <= count.tokens + SLACK + 1
    bound = chat(UNKNOWN, messages).bound
    assert all(count.tokens <= bound for count in exact.values())
    assert chat(UNKNOWN, messages).tokens <= bound


@given(texts)
@settings(deadline=None)
def test_a_text_is_at_most_one_token_for_each_byte(text):
    for encoding in ENCODINGS:
        assert TOKENIZERS.count_text(encoding, text) <= bytes_bound(UNKNOWN, text)


@given(texts)
@settings(deadline=None)
def test_encoding_and_decoding_gives_the_text_back(text):
    for encoding in ENCODINGS:
        ids = TOKENIZERS.encode(encoding, text)
        assert TOKENIZERS.decode(encoding, ids).decode() == text


def test_a_bound_is_never_above_the_model_s_window():
    huge = [{"role": "user", "content": "字" * 100_000}]
    assert chat(DEEPSEEK, huge).bound == DEEPSEEK.context_window
    assert chat(UNKNOWN, huge).bound > 300_000


def test_each_of_several_inputs_has_the_window_for_itself():
    model = CATALOGUE.model("openai", "text-embedding-3-small")
    count = TOKENIZERS.count_input(model, "embeddings", {"input": ["word " * 1_000] * 50})
    assert count.tokens > 50_000 > model.context_window
    assert count.bound == count.tokens


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox jumps over the lazy dog. " * 5,
        "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。" * 3,
        "Съешь ещё этих мягких французских булок, да выпей чаю. " * 3,
        "def even(x):\n    return [y for y in x if y % 2 == 0]\n" * 3,
        "こんにちは、世界。お元気ですか？" * 3,
    ],
)
def test_an_estimate_is_between_half_and_twice_the_count(text):
    for encoding in ENCODINGS:
        count = TOKENIZERS.count_text(encoding, text)
        assert count / 2 <= estimate_text(DEEPSEEK, text) <= count * 2


def test_without_its_tokenizer_a_count_is_an_estimate_that_loads_nothing():
    empty = Tokenizers()
    count = empty.count_input(GPT_4O, "chat", {"messages": COOKBOOK})
    assert not count.exact
    assert count.bound >= 124
    assert 124 / 2 <= count.tokens <= 124 * 2
    assert not empty.ready("o200k_base")
    with pytest.raises(KeyError):
        empty.count_text("o200k_base", "x")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("unit", [" ", "\t", "\u3000", "\n", "a", "汉", "!"])
def test_a_long_run_neither_crashes_nor_takes_seconds(encoding, unit):
    text = unit * 1_100_000 + "x"
    assert 0 < TOKENIZERS.count_text(encoding, text) <= len(text.encode())


def test_a_run_of_white_space_that_had_to_be_cut_is_not_called_exact():
    count = chat(GPT_4O, [{"role": "user", "content": " " * 250_000}])
    assert not count.exact
    assert count.tokens <= count.bound
    assert chat(GPT_4O, [{"role": "user", "content": "a " * 100_000}]).exact


@given(st.lists(st.sampled_from([" " * LONGEST_RUN, " " * 17, "\t" * 250_000, "word", "", "x" * 600_000])))
@settings(max_examples=20, deadline=None)
def test_pieces_join_to_the_text_and_hold_no_longer_run(parts):
    text = "".join(parts)
    cut = pieces(text)
    assert "".join(cut) == text
    assert all(len(run) <= LONGEST_RUN for piece in cut for run in re.findall(r"\s+", piece))
    assert all(len(run) <= LONGEST_WORD for piece in cut for run in re.findall(r"\S+", piece))


def test_a_word_of_millions_is_counted_as_its_parts_are():
    text = "x" * (2 * LONGEST_WORD + 1)
    assert max(map(len, pieces(text))) == LONGEST_RUN
    assert abs(TOKENIZERS.count_text("o200k_base", text) - len(text) // 8) <= len(pieces(text))
    assert pieces("汉字" * (LONGEST_WORD // 2)) == [
        "汉字" * (LONGEST_WORD // 2)
    ]  # as before: it may be exact


def test_runs_that_are_just_short_enough_are_looked_at_once():
    text = (" " * (LONGEST_RUN - 1) + "x") * 20
    begun = time.process_time()
    assert pieces(text) == [text]
    assert time.process_time() - begun < 1


def test_a_lone_surrogate_is_counted_like_any_text():
    assert TOKENIZERS.count_text("o200k_base", "\ud800x") > 0
    assert bytes_bound(UNKNOWN, "\ud800x") == 4
    assert estimate_text(UNKNOWN, "\ud800x") > 0


def test_a_vocabulary_that_was_changed_is_refused(tmp_path):
    real = (DATA / "vocab" / "cl100k_base.tiktoken.gz").read_bytes()
    changed = gzip.decompress(real).replace(b"IQ== 0", b"IQ== 1", 1)
    for content in (gzip.compress(changed), real[:-1_000], b"not gzip"):
        (tmp_path / "cl100k_base.tiktoken.gz").write_bytes(content)
        with pytest.raises(ValueError, match="vocabulary cl100k_base"):
            Vocabularies(tmp_path).load_now("cl100k_base")


def test_an_encoding_that_is_not_shipped_is_refused():
    with pytest.raises(KeyError):
        Vocabularies().load_now("p50k_base")


def test_threads_that_load_at_once_load_once():
    shared = Vocabularies()
    threads = [threading.Thread(target=shared.load_now, args=("cl100k_base",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.count_text("cl100k_base", "hello world") == 2


@pytest.mark.anyio
async def test_counting_loads_the_tokenizer_off_the_loop_and_long_texts_in_a_thread():
    fresh = Tokenizers()
    turns = 0

    async def tick():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    ticker = asyncio.create_task(tick())
    short = await fresh.count(GPT_4O, "chat", {"messages": COOKBOOK})
    assert short.tokens == 124
    assert turns > 10
    before = turns
    long = await fresh.count(GPT_4O, "chat", {"messages": COOKBOOK * 200})
    assert long.exact
    assert turns > before
    ticker.cancel()
    assert (await fresh.count(UNKNOWN, "chat", {"messages": HELLO})).exact is False


OFFLINE = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("the network was asked for")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import headgate.money.tokens as tokens
assert "tiktoken" not in sys.modules and "regex" not in sys.modules
t = tokens.Tokenizers()
for name in ("cl100k_base", "o200k_base"):
    t.load_now(name)
print(t.count_text("cl100k_base", "tiktoken is great!"), t.count_text("o200k_base", "你好，世界"))
assert "requests" not in sys.modules
"""


def can_unshare():
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0


def test_counting_needs_neither_network_nor_cache_folder(tmp_path):
    command = [sys.executable, "-W", "error", "-c", OFFLINE]
    if can_unshare():
        command = ["unshare", "-n", *command]
    dropped = {"TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"}
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    env |= {"TMPDIR": str(tmp_path), "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["6", "3"]
    assert list(tmp_path.iterdir()) == []
