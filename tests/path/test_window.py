"""What is too long for its model is refused here; each of several inputs has the window for itself."""

import msgspec
import pytest
from tests.path.fakes import WHO

from headgate.admission.window import check_window, may_overflow
from headgate.errors import CallerError
from headgate.http.parse import parse
from headgate.money.catalogue import Catalogue
from headgate.money.tokens import Tokenizers
from headgate.process.counting import LocalCounter
from headgate.settle import believable
from headgate.values import Call, Host, Target, Usage

pytestmark = pytest.mark.anyio
CATALOGUE = Catalogue.load()
COUNTER = LocalCounter(Tokenizers())


def call(operation: str, **members: object) -> Call:
    made = Call(bytes(16), operation, 0)  # type: ignore[arg-type]
    parse(msgspec.json.encode({"model": "m"} | members), made)
    made.principal = WHO
    return made


async def refusal(made: Call, name: str, *, simulated: bool = True) -> CallerError | None:
    host = Host(name="openai", base_url="http://h")
    to = Target(host=host, model=CATALOGUE.model("openai", name), prices=None, simulated=simulated)
    try:
        if may_overflow(made, to):
            check_window(made, to.model, await COUNTER.longest_input(made, to))
    except CallerError as error:
        return error
    return None


@pytest.mark.parametrize("simulated", [True, False])
async def test_a_thousand_documents_are_not_one_long_one(simulated):
    many = call("embeddings", input=["word " * 100] * 1_000)
    assert await refusal(many, "text-embedding-3-small", simulated=simulated) is None
    ids = call("embeddings", input=[[1] * 8_000] * 20)
    assert await refusal(ids, "text-embedding-3-small", simulated=simulated) is None


@pytest.mark.parametrize(
    ("operation", "members", "model", "param"),
    [
        ("embeddings", {"input": ["a", "word " * 9_000]}, "text-embedding-3-small", "input"),
        ("embeddings", {"input": [[1], [1] * 9_000]}, "text-embedding-3-small", "input"),
        ("embeddings", {"input": "word " * 9_000}, "text-embedding-3-small", "input"),
        ("completions", {"prompt": "word " * 5_000}, "gpt-3.5-turbo-instruct", "prompt"),
        ("completions", {"prompt": "word " * 4_000, "max_tokens": 200}, "gpt-3.5-turbo-instruct", "prompt"),
        ("chat", {"messages": [{"role": "user", "content": "word " * 9_000}]}, "gpt-4", "messages"),
        (
            "chat",
            {"messages": [{"role": "user", "content": "word " * 8_000}], "max_tokens": 400},
            "gpt-4",
            "messages",
        ),
    ],
)
async def test_what_passes_the_window_is_named(operation, members, model, param):
    error = await refusal(call(operation, **members), model)
    assert error is not None
    assert (error.http_status, error.code, error.param) == (400, "context_length_exceeded", param)
    assert error.message.startswith("This model's maximum context length is ")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_an_output_limit_above_the_model_s_is_named(name):
    hello = [{"role": "user", "content": "Hello"}]
    error = await refusal(call("chat", messages=hello, **{name: 20_000}), "gpt-4o")
    assert error is not None
    assert (error.code, error.param) == ("invalid_value", name)
    assert error.message == (
        f"{name} is too large: 20000. This model supports at most 16384 completion tokens, "
        "whereas you provided 20000."
    )


@pytest.mark.parametrize(
    ("operation", "members", "usage", "believed"),
    [
        ("embeddings", {"input": ["word " * 1_000] * 50}, Usage(50_000), True),
        ("embeddings", {"input": ["a"] * 2}, Usage(10**8), False),
        ("chat", {"messages": [{"role": "user", "content": "x"}]}, Usage(10, 16_384), True),
        ("chat", {"messages": [{"role": "user", "content": "x"}], "n": 3}, Usage(10, 49_152), True),
        ("chat", {"messages": [{"role": "user", "content": "x"}]}, Usage(10, 300_000), False),
        (
            "chat",
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
            Usage(120_000, 10),
            True,
        ),
    ],
)
def test_a_count_is_believed_as_far_as_a_call_can_go(operation, members, usage, believed):
    name = "text-embedding-3-small" if operation == "embeddings" else "gpt-4o"
    host = Host(name="openai", base_url="http://h")
    to = Target(host=host, model=CATALOGUE.model("openai", name), prices=None)
    assert believable(usage, call(operation, **members), to) is believed
