"""A provider that knows OpenAI's description accepts every request that we forward."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.surfaces.conftest import Gateway
from tests.surfaces.strict_cases import CASES, forwarded
from tests.surfaces.strict_upstream import Recorder, Steady, Verdict

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]  # the first test installs the modules

PROVIDER_KEY = "sk-the-provider-s"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Strict:
    """A gateway whose only provider is the strict one."""

    gateway: Gateway
    upstream: Recorder

    def post(self, path: str, body: Any, seed: int = 0) -> tuple[Answer, list[Verdict]]:
        """Return our answer, and what reached the provider meanwhile."""
        self.upstream.seed = seed
        before = len(self.upstream.verdicts)
        where = urlsplit(self.gateway.base)
        connection = http.client.HTTPConnection(where.netloc, timeout=60)
        headers = {"authorization": f"Bearer {self.gateway.key}", "content-type": "application/json"}
        connection.request("POST", where.path + path, json.dumps(body), headers)
        got = connection.getresponse()
        answer = Answer(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())
        connection.close()
        return answer, self.upstream.verdicts[before:]


@pytest.fixture(scope="module")
def strict(tmp_path_factory) -> Iterator[Strict]:
    folder = tmp_path_factory.mktemp("strict")
    steady = Steady(folder)
    upstream = Recorder(steady.port)
    try:
        (folder / "headgate.toml").write_text(
            f'[[providers]]\nname = "openai"\nbase_url = "{upstream.base}"\napi_key = "{PROVIDER_KEY}"\n'
        )
        gateway = Gateway(folder, "--config", "headgate.toml")
        try:
            yield Strict(gateway, upstream)
        finally:
            code, _, err = gateway.stop()
        assert (code, err) == (0, "")
    finally:
        upstream.stop()
        steady.stop()


def assert_error(error: Any) -> None:
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]


def assert_sane(answer: Answer, *, stream: bool) -> None:
    """The answer is one of OpenAI's, or an error of OpenAI's shape."""
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.status in {200, 502, 503, 504}, answer.body
    if answer.status != 200:
        assert_error(json.loads(answer.body)["error"])
    elif not stream:
        assert {"choices", "data"} & set(json.loads(answer.body))
    else:
        frames = answer.body.decode().split("\n\n")
        assert frames.pop() == ""
        data = [line[6:] for frame in frames for line in frame.split("\n") if line.startswith("data: ")]
        values = [json.loads(item) for item in data if item != "[DONE]"]
        assert (data[-1] == "[DONE]") is ("error" not in values[-1])
        if "error" in values[-1]:
            assert_error(values.pop()["error"])
        assert all("choices" in value for value in values)


def test_the_strict_provider_does_refuse_what_is_wrong(strict):
    wrong = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}], "temperature": "hot"}
    where = urlsplit(strict.upstream.base)
    connection = http.client.HTTPConnection(where.netloc, timeout=60)
    connection.request(
        "POST", "/v1/chat/completions", json.dumps(wrong), {"content-type": "application/json"}
    )
    assert connection.getresponse().status == 400
    connection.close()
    verdict = strict.upstream.verdicts[-1]
    assert not verdict.valid
    assert verdict.complaints["x-steady-error-1-path"] == "body.temperature"


@pytest.mark.parametrize("name", CASES)
def test_the_strict_provider_accepts_what_we_forward(strict, name):
    path, body, change = CASES[name]
    answer, verdicts = strict.post(path, body)
    assert verdicts, answer.body
    for verdict in verdicts:
        assert verdict.valid, verdict.complaints
        assert verdict.status == 200
        assert verdict.path == f"/v1{path}"
        assert verdict.headers["authorization"] == f"Bearer {PROVIDER_KEY}"
        assert verdict.body == forwarded(body, change)
    assert answer.status == 200, answer.body
    assert_sane(answer, stream=bool(body.get("stream")))


@pytest.mark.parametrize(
    "name", ["chat: plain", "chat: a tool", "chat: a stream", "completions: a text", "embeddings: a text"]
)
def test_answers_random_within_the_description_are_served_and_the_books_hold(strict, name):
    path, body, _ = CASES[name]
    for seed in range(1, 26):
        answer, [verdict] = strict.post(path, body, seed)
        assert verdict.valid, (seed, verdict.complaints)
        assert answer.status == 200, (seed, answer.body)
        assert_sane(answer, stream=bool(body.get("stream")))
    checked = strict.gateway.command("ledger", "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_what_comes_whole_where_a_stream_was_asked_for_is_streamed(strict):
    # The description knows no event stream of /completions, so the strict provider answers JSON.
    path, body, _ = CASES["completions: a stream"]
    answer, _ = strict.post(path, body)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.body.endswith(b"\n\ndata: [DONE]\n\n")
