import msgspec
import pytest
from hypothesis import given, strategies as st

from headgate.admission.bounds import (
    ASSUMED_BLINDLY,
    ASSUMED_OUTPUT,
    MIN_SHRUNK,
    MOST_OUTPUT,
    assumed_output,
    bound,
    input_bound,
    output_bound,
)
from headgate.http.parse import parse
from headgate.money.cost import upper_bound
from headgate.values import Call, Host, Model, Prices, Target

PRICES = Prices(input=1_000, output=10_000, cached_input=1_000, reasoning=10_000)
HELLO = [{"role": "user", "content": "Hello"}]


def call(operation: str = "chat", **members: object) -> Call:
    made = Call(bytes(16), operation, 0)  # type: ignore[arg-type]
    given = {"chat": {"messages": HELLO}, "completions": {"prompt": "Hello"}, "embeddings": {"input": "x"}}
    parse(msgspec.json.encode({"model": "m"} | given[operation] | members), made)
    return made


def target(completion_tokens: int = 0, **facts: object) -> Target:
    host = Host(name="h", base_url="http://h", completion_tokens=completion_tokens)
    return Target(host=host, model=Model(name="m", **facts), prices=PRICES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("members", "facts", "most"),
    [
        ({"max_tokens": 7}, {"max_output": 100}, 7),
        ({"max_tokens": 7, "n": 3}, {}, 21),
        ({}, {"max_output": 100}, 100),
        ({}, {"context_window": 8_000}, 8_000),
        ({}, {"context_window": 1_000_000}, MOST_OUTPUT),
        ({}, {}, MOST_OUTPUT),
    ],
)
def test_output_is_bounded_by_the_first_limit_that_holds(members, facts, most):
    assert output_bound(call(**members), target(**facts)) == most


def test_a_rejected_prediction_is_billed_as_output():
    plain = output_bound(call(max_tokens=10), target())
    text = "x" * 500
    predicted = call(max_tokens=10, prediction={"type": "content", "content": text})
    assert output_bound(predicted, target()) >= plain + 500


@pytest.mark.parametrize(
    ("members", "most"), [({}, 16), ({"n": 2}, 32), ({"max_tokens": 0}, 0), ({"prompt": ["a", "b"]}, 32)]
)
def test_an_old_completion_is_16_tokens_where_nobody_says_otherwise(members, most):
    assert output_bound(call("completions", **members), target(16, max_output=4_096)) == most


def test_elsewhere_an_unlimited_completion_is_as_long_as_the_model_makes_it():
    assert output_bound(call("completions"), target(max_output=4_096)) == 4_096


@pytest.mark.parametrize(
    ("facts", "members", "sent"),
    [
        ({"max_output": 100_000}, {}, 0),
        ({"context_window": 8_000}, {}, 0),
        ({}, {"max_tokens": 5}, 0),
        ({}, {}, ASSUMED_BLINDLY),
        ({"context_window": 200_000}, {}, ASSUMED_OUTPUT),
        (
            {"context_window": 200_000},
            {"messages": [{"role": "user", "content": "x" * 399_000}]},
            MIN_SHRUNK,
        ),
    ],
)
def test_a_limit_is_sent_only_where_nobody_keeps_one(facts, members, sent):
    assert assumed_output(call(**members), (target(**facts),)) == sent


def test_of_several_targets_the_smallest_limit_is_sent():
    assert assumed_output(call(), (target(), target(max_output=4_096))) == 4_096
    assert assumed_output(call("embeddings"), (target(),)) == 0
    assert assumed_output(call("completions"), (target(16),)) == 0


def test_media_add_the_most_that_a_model_makes_of_them():
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
    shown = call(messages=[{"role": "user", "content": [image, image]}])
    plain = call(messages=[{"role": "user", "content": []}])
    assert input_bound(shown, target(image_tokens=1_445)) >= 2_890 + input_bound(plain, target())
    assert input_bound(shown, target()) >= 100_000


def test_what_is_hidden_is_bounded_by_the_window():
    hidden = call(messages=[{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}])
    assert input_bound(hidden, target(context_window=128_000)) == 128_000
    assert input_bound(hidden, target()) >= 1_000_000


def test_the_window_holds_for_each_of_several_inputs():
    many = call("embeddings", input=["x" * 8_000] * 100)
    assert input_bound(many, target(context_window=8_192)) >= 800_000
    assert input_bound(many, target(context_window=1_000)) == 100_000


def test_tools_are_bounded_with_what_hosts_write_around_them():
    tools = [{"type": "function", "function": {"name": "f", "description": "字" * 100}}]
    plain, tooled = call(), call(tools=tools)
    assert input_bound(tooled, target()) - input_bound(plain, target()) >= 600 + 1_000
    assert input_bound(tooled, target(exact=True)) - input_bound(plain, target(exact=True)) >= 300


def test_a_count_lowers_the_bound_of_its_own_target_only():
    counted = call(messages=[{"role": "user", "content": "x" * 10_000}])
    counted.counted = {("h", "m"): 1_300}
    assert input_bound(counted, target(exact=True)) == 1_300
    other = msgspec.structs.replace(target(), host=Host(name="other", base_url="http://o"))
    assert input_bound(counted, other) >= 10_000
    assert bound(counted, (target(exact=True), other)) > bound(counted, (target(exact=True),))


def test_a_hold_is_what_the_dearest_target_can_cost():
    cheap, dear = target(), msgspec.structs.replace(target(), prices=Prices(input=2_000, output=30_000))
    made = call(max_tokens=7)
    assert (
        bound(made, (cheap,))
        < bound(made, (dear,))
        == bound(made, (cheap, dear))
        == bound(made, (dear, cheap))
    )


PICO = st.integers(0, 10**9)
BASE = st.builds(Prices, PICO, PICO, PICO, PICO, PICO, PICO, PICO, PICO)
LONG = st.builds(
    lambda base, above, long: msgspec.structs.replace(base, long_above=above, long=long),
    BASE,
    st.sampled_from((100, 100_000)),
    BASE,
)
UNITS = st.builds(lambda base, price: msgspec.structs.replace(base, more=(("character", price),)), BASE, PICO)


@given(BASE, st.one_of(st.none(), BASE, LONG, UNITS), st.integers(1, 50_000))
def test_what_is_worked_out_once_for_a_target_is_what_its_prices_say(before, prices, most):
    made = call(max_tokens=most)
    made.units = (("character", 1_000),)
    to = msgspec.structs.replace(msgspec.structs.replace(target(), prices=before), prices=prices)
    money = 0 if prices is None else upper_bound(input_bound(made, to), most, prices, made.units)
    assert bound(made, (to,)) == money
