"""Batches whose lines are calls at their provider's batch endpoint, which answers when it may.

The provider is of `tests/batch_calls.py`; the live one was not tried.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.batch_calls import KEY, BatchEndpoint, chat, error
from tests.stores.books import figures
from tests.surfaces.lives import Lives
from tests.surfaces.places import every_third
from tests.surfaces.test_batches_sdk import ask, lines_of, order, wait
from tests.surfaces.test_passed_batches import configured

from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.database import connect

CONFIG = """
[[providers]]
name = "volcengine"
base_url = "{base}"
api_key = "{key}"
batch = "provider"
batch_models = {{ "doubao-seed-1-6-250615" = "ep-bi-20251127-abcde" }}
[server]
drain_s = 0.5
[deadlines]
first_byte_s = 1
total_s = 1
[[models]]
name = "m"
targets = [{{ provider = "volcengine", model = "doubao-seed-1-6-250615" }}]
[[prices.rows]]
provider = "volcengine"
model = "doubao-seed-1-6-250615"
input = "1"
output = "2"
batch = {{ input = "0.4", output = "0.8" }}
"""
EACH = 20 * 400 + 10 * 800  # nano-USD of a line: the batch price of the price book
VECTORS = "/v1/embeddings"


@pytest.fixture
def endpoint() -> Iterator[BatchEndpoint]:
    with BatchEndpoint() as made:
        yield made
        made.hold.set()


@pytest.fixture
def lives(tmp_path: Path, endpoint: BatchEndpoint) -> Iterator[Lives]:
    made = Lives(tmp_path, CONFIG.format(base=endpoint.base, key=KEY), EACH)
    yield made
    endpoint.hold.set()
    if made.gateway is not None:
        made.gateway.stop()


def lines(count: int, **body) -> list[dict[str, object]]:
    return [ask(f"mine {n}", model="m", **body) for n in range(count)]


def until(done) -> None:
    deadline = time.monotonic() + 30
    while not done() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert done()


def test_lines_are_calls_at_the_batch_endpoint_and_each_is_paid_once(lives, endpoint):
    client = lives.start()
    asked = lines(40, max_completion_tokens=20, max_tokens=None)
    asked[7] = ask("mine 7", model="m", temperature=9)
    batch = wait(client, order(client, asked))
    assert (batch.status, batch.model, batch.errors) == ("completed", "m", None)
    assert (batch.request_counts.completed, batch.request_counts.failed) == (39, 1)
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (39 * 20, 39 * 10)
    answers = lines_of(client, batch.output_file_id)
    body = answers["mine 8"]["response"]["body"]
    assert (body["model"], body["choices"][0]["message"]["content"]) == ("m", "answer to Say mine 8")
    assert (endpoint.calls, len(endpoint.bodies)) == (0, 39)
    assert {each["model"] for each in endpoint.bodies} == {"ep-bi-20251127-abcde"}
    assert {each["max_tokens"] for each in endpoint.bodies} == {20}
    assert not any("stream" in each for each in endpoint.bodies)
    lives.check(39)
    costs = figures(lives.gateway.data, "SELECT sum(cost) FROM calls")
    assert costs == [(39 * EACH,)]  # it bills its batch price


def test_embeddings_have_one_too(lives, endpoint):
    client = lives.start()
    asked = [
        {
            "custom_id": f"mine {n}",
            "method": "POST",
            "url": VECTORS,
            "body": {"model": "m", "input": f"text {n}"},
        }
        for n in range(3)
    ]
    batch = wait(client, order(client, asked, VECTORS))
    assert (batch.status, batch.request_counts.completed, endpoint.calls) == ("completed", 3, 0)
    vector = lines_of(client, batch.output_file_id)["mine 1"]["response"]["body"]["data"][0]["embedding"]
    assert vector == [0.5, 6]


def test_an_answer_may_take_longer_than_a_call_and_many_wait_at_once(lives, endpoint):
    endpoint.hold.clear()
    client = lives.start()
    made = order(client, lines(100))
    until(lambda: endpoint.open == 100)  # although a model has 32 lines at once, and a call one second
    time.sleep(1.5)
    assert client.batches.retrieve(made.id).status == "in_progress"
    endpoint.hold.set()
    batch = wait(client, made)
    assert (batch.request_counts.completed, len(endpoint.bodies)) == (100, 100)
    lives.check(100)


def test_few_begin_and_then_more(lives, endpoint):
    endpoint.hold.clear()
    client = lives.start()
    order(client, lines(60))
    until(lambda: endpoint.open == 60)
    first, times = endpoint.times[0], endpoint.times
    assert sum(each < first + 0.9 for each in times) <= 2
    assert times[-1] > first + 4  # 1, 2, 4, 8, 16, 32, 64


def test_so_many_as_the_settings_say(lives, endpoint):
    with (lives.folder / "headgate.toml").open("a") as file:
        file.write('[[batch.models]]\nmodel = "m"\nconcurrency = 3\n')
    endpoint.answer = lambda body: (time.sleep(0.05), chat(body))[1]
    client = lives.start()
    wait(client, order(client, lines(20)))
    assert endpoint.most <= 3
    lives.check(20)


def test_what_limits_it_is_waited_for_and_costs_no_line(lives, endpoint):
    refusals = iter(range(5))
    endpoint.answer = lambda body: (
        chat(body)
        if next(refusals, None) is None
        else error(429, "RateLimitExceeded.EndpointTPMExceeded", "Slow down", Retry_After="1")
    )
    client = lives.start()
    batch = wait(client, order(client, lines(12)))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 12, 0)
    assert len(endpoint.bodies) == 17
    lives.check(12)


def test_what_breaks_there_is_asked_again_and_what_it_refuses_is_the_lines_error(lives, endpoint):
    seen: set[str] = set()
    lock = threading.Lock()

    def answer(body):
        text = body["messages"][0]["content"]
        with lock:
            first = text not in seen
            seen.add(text)
        if text == "Say mine 3":
            return error(400, "InvalidParameter", "messages is wrong")
        return error(500, "InternalServiceError", "broke") if first else chat(body)

    endpoint.answer = answer
    client = lives.start()
    batch = wait(client, order(client, lines(6)))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 5, 1)
    refused = lines_of(client, batch.error_file_id)["mine 3"]["response"]
    assert (refused["status_code"], refused["body"]["error"]["message"]) == (400, "messages is wrong")
    lives.check(5)


def test_a_cancel_does_not_wait_for_answers(lives, endpoint):
    client = lives.start()
    endpoint.answer = lambda body: (
        chat(body) if body["messages"][0]["content"] in {"Say mine 0", "Say mine 1"} else wait_for_it(body)
    )

    def wait_for_it(body):
        endpoint.hold.clear()
        endpoint.hold.wait(60)
        return chat(body)

    made = order(client, lines(8))
    until(lambda: client.batches.retrieve(made.id).request_counts.completed == 2 and endpoint.open >= 1)
    client.batches.cancel(made.id)
    batch = wait(client, made)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("cancelled", 2, 6)
    assert lines_of(client, batch.error_file_id)["mine 7"]["error"]["code"] == "batch_cancelled"
    lives.check(2)


def test_what_is_not_answered_in_time_has_expired(lives, endpoint):
    endpoint.hold.clear()
    client = lives.start()
    made = order(client, lines(4))
    until(lambda: endpoint.open == 4)
    lives.gateway.stop()
    soon = time.time_ns() // 1_000 + 3 * 1_000_000
    with closing(connect(lives.gateway.data)) as sql, writing(sql):
        sql.execute("UPDATE batches SET expires_at = ?, job = json_set(job, '$.expires_at', ?)", (soon, soon))
    client = lives.start()
    batch = wait(client, client.batches.retrieve(made.id))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("expired", 0, 4)
    assert lines_of(client, batch.error_file_id)["mine 2"]["error"]["code"] == "batch_expired"
    lives.check(0)


@pytest.mark.parametrize(
    "place",
    every_third([
        "batch-begun=kill@1", "batch-claimed=kill@2", "after-open=kill@5", "after-send=kill@5",
        "before-settle=kill@5", "after-settle=kill@5", "batch-before-output=kill@1", "batch-after-output=kill@1",
    ]),
)  # fmt: skip
def test_a_kill_costs_no_line_and_no_charge(lives, endpoint, place):
    client = lives.start(place)
    made = order(client, lines(30))
    lives.died()
    client = lives.start()
    batch = wait(client, client.batches.retrieve(made.id))
    assert (batch.status, batch.request_counts.completed) == ("completed", 30), batch
    assert len(lines_of(client, batch.output_file_id)) == 30
    assert endpoint.calls == 0
    lives.check(30)


def test_a_stop_gives_up_what_waits_and_another_start_asks_again(lives, endpoint):
    endpoint.hold.clear()
    client = lives.start()
    made = order(client, lines(4))
    until(lambda: endpoint.open == 4)
    lives.gateway.stop()
    endpoint.hold.set()
    client = lives.start()
    batch = wait(client, client.batches.retrieve(made.id))
    assert (batch.status, batch.request_counts.completed, len(endpoint.bodies)) == ("completed", 4, 8)
    lives.check(4)


def test_each_answer_of_several_is_a_call_of_its_own(lives, endpoint):
    client = lives.start()
    batch = wait(client, order(client, [ask("two", model="m", n=2)]))
    body = lines_of(client, batch.output_file_id)["two"]["response"]["body"]
    assert ([each["index"] for each in body["choices"]], len(endpoint.bodies)) == ([0, 1], 2)
    assert endpoint.calls == 0


def test_json_of_another_shape_is_asked_for_once_more(lives, endpoint):
    said = iter(["no JSON", '{"a": 1}'])

    def answer(body):
        status, row, headers = chat(body)
        row["choices"][0]["message"]["content"] = next(said)
        return status, row, headers

    endpoint.answer = answer
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    client = lives.start()
    batch = wait(client, order(client, [ask("one", model="m", response_format=form)]))
    body = lines_of(client, batch.output_file_id)["one"]["response"]["body"]
    assert (body["choices"][0]["message"]["content"], len(endpoint.bodies)) == ('{"a": 1}', 2)


def test_a_call_that_is_no_line_goes_where_it_always_goes(lives, endpoint):
    client = lives.start()
    with pytest.raises(Exception, match="no batch"):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "now"}])
    assert (endpoint.calls, endpoint.bodies) == (1, [])


def test_both_of_its_keys_are_used(lives, endpoint):
    configured(lives, f'api_key = "{KEY}"', f'api_keys = ["{KEY}", "{KEY}-2"]')
    endpoint.keys.add(f"{KEY}-2")
    client = lives.start()
    wait(client, order(client, lines(30)))
    assert endpoint.by == {KEY, f"{KEY}-2"}
    lives.check(30)


def test_the_books_are_right_while_lines_wait_for_long(lives, endpoint):
    endpoint.hold.clear()
    client = lives.start()
    order(client, lines(3))
    until(lambda: endpoint.open == 3)
    found = lives.gateway.command("ledger", "check", "--json")
    assert json.loads(found.stdout)["findings"] == [], found.stdout
