import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.cli.stub import Stub, answer, stream

from headgate.cli.client import Client, Refused, Turn
from headgate.cli.exits import Unreachable, Unusable

KEY = "sk-hg-live-test"
USAGE = '{"choices": [], "model": "gpt-4o-mini", "usage": {"prompt_tokens": 5, "completion_tokens": 2}}'


def delta(text: str) -> str:
    return json.dumps({"choices": [{"delta": {"content": text}}]})


def body(request: bytes) -> dict[str, object]:
    return dict(json.loads(request.partition(b"\r\n\r\n")[2]))


def test_an_answer_streams_to_stdout_and_its_tokens_to_stderr(run: Run) -> None:
    with Stub([stream(delta("你"), delta("好"), USAGE, x_request_id="req_00")]) as stub:
        result = run("chat", "--url", f"http://127.0.0.1:{stub.port}/v1", "--key", KEY, "say", "hello")
    assert (result.exit_code, result.stdout) == (0, "你好\n")
    assert "5 tokens in, 2 out" in result.stderr
    asked = body(stub.requests[0])
    assert asked["messages"] == [{"role": "user", "content": "say hello"}]
    assert asked["stream"] is True
    assert f"authorization: bearer {KEY}".encode() in stub.requests[0].lower()
    assert stub.requests[0].startswith(b"POST /v1/chat/completions ")


def test_where_the_books_are_elsewhere_the_cost_is_the_price_books(run: Run) -> None:
    used = (
        '{"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 600}}'
    )
    known = f'{{"choices": [], "model": "gpt-4o-mini", "usage": {used}}}'
    unknown = known.replace("gpt-4o-mini", "my-own")
    with Stub([stream(known), stream(known), stream(unknown)]) as stub:
        call = ("chat", "--url", f"http://127.0.0.1:{stub.port}", "--key", KEY, "hi")
        # 400 tokens at $0.15, 600 cached at $0.075 and 100 at $0.60 per million
        assert "about $0.000165" in run(*call).stderr
        report = json.loads(run(*call, "--json").stdout)
        assert (report["cost_nano_usd"], report["estimate_nano_usd"]) == (None, 165_000)
        assert "$" not in run(*call).stderr


def test_wishes_are_sent_only_when_they_were_made(run: Run) -> None:
    with Stub([stream(USAGE), stream(USAGE)]) as stub:
        url = f"http://127.0.0.1:{stub.port}"
        run("chat", "--url", url, "--key", KEY, "hi")
        run(
            "chat",
            "--url",
            url,
            "--key",
            KEY,
            "--system",
            "s",
            "--max-tokens",
            "9",
            "--temperature",
            "0",
            "hi",
        )
    plain, wished = map(body, stub.requests)
    assert set(plain) == {"model", "messages", "stream", "stream_options"}
    assert (wished["max_tokens"], wished["temperature"]) == (9, 0)
    assert wished["messages"][0] == {"role": "system", "content": "s"}  # type: ignore[index]


def test_the_key_of_the_environment_is_used_if_it_is_one_of_ours(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Stub([stream(delta("a"), USAGE)]) as stub:
        result = run("chat", "--url", f"http://127.0.0.1:{stub.port}", "--json", input="piped in")
    assert json.loads(result.stdout)["text"] == "a"
    assert KEY.encode() in stub.requests[0]
    assert body(stub.requests[0])["messages"] == [{"role": "user", "content": "piped in"}]


def test_an_error_exits_1_with_its_message(run: Run) -> None:
    refusal = b'{"error": {"message": "No such model.", "type": "t", "param": null, "code": "c"}}'
    with Stub([answer(404, refusal)]) as stub:
        result = run("chat", "--url", f"http://127.0.0.1:{stub.port}", "--key", KEY, "hi")
    assert (result.exit_code, result.stderr) == (1, "Error: No such model. (HTTP 404)\n")


def test_an_error_under_json_has_the_gateways_code(run: Run) -> None:
    told = b'{"error": {"message": "m", "type": "t", "param": null, "code": "model_not_found"}}'
    for refusal, code in ((told, "model_not_found"), (b"{}", "http_404")):
        with Stub([answer(404, refusal)]) as stub:
            result = run("chat", "--url", f"http://127.0.0.1:{stub.port}", "--key", KEY, "hi", "--json")
        assert (result.exit_code, result.stdout) == (1, "")
        assert json.loads(result.stderr)["error"]["code"] == code


def test_an_error_in_the_middle_of_a_stream_is_said(run: Run) -> None:
    fault = json.dumps({"error": {"message": "It broke.", "type": "t", "param": None, "code": None}})
    with Stub([stream(delta("half"), fault, done=False)]) as stub:
        result = run("chat", "--url", f"http://127.0.0.1:{stub.port}", "--key", KEY, "hi")
    assert result.exit_code == 1
    assert "It broke." in result.stderr


@pytest.mark.parametrize(
    "broken",
    [
        stream(delta("half"), done=False),
        stream(delta("half"))[:-40],
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>",
        answer(500, b"<html>"),
        b"",
    ],
)
def test_an_answer_that_breaks_off_or_is_none_exits_3(run: Run, broken: bytes) -> None:
    with Stub([broken]) as stub:
        result = run("chat", "--url", f"http://127.0.0.1:{stub.port}", "--key", KEY, "hi")
    assert result.exit_code == 3, result.output


def test_a_stream_reads_the_same_however_it_is_cut() -> None:
    with Stub([stream(": comment", delta("a\n"), delta("b"), USAGE)]) as stub:
        turn = Turn()
        with pytest.raises(Unreachable):  # `: comment` is no JSON when it comes as data
            list(Client(f"http://127.0.0.1:{stub.port}", KEY).stream({}, turn))
    with Stub([stream(delta("a\n"), delta("b"), USAGE)]) as stub:
        turn = Turn()
        assert list(Client(f"http://127.0.0.1:{stub.port}", KEY).stream({}, turn)) == ["a\n", "b"]
    assert (turn.text, turn.complete, turn.input_tokens) == ("a\nb", True, 5)


def test_nobody_there_exits_3_and_says_how_to_start(run: Run) -> None:
    result = run("chat", "--url", "http://127.0.0.1:1", "--key", KEY, "hi")
    assert result.exit_code == 3
    assert "headgate serve" in result.stderr


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8787", "ftp://host", "http://", "http://host:80a", "http://host:99999", "http://[::1"]
)
def test_what_is_no_address_exits_2(url: str) -> None:
    with pytest.raises(Unusable):
        Client(url, KEY)


def test_a_gateway_elsewhere_needs_a_key_of_its_own(run: Run) -> None:
    result = run("chat", "--url", "http://gateway.invalid", "hi")
    assert result.exit_code == 2
    assert "--key" in result.stderr


def test_nothing_to_say_exits_2(run: Run) -> None:
    assert run("chat", "--key", KEY, input="").exit_code == 2


def test_a_refusal_keeps_status_and_code() -> None:
    refusal = b'{"error": {"message": "m", "type": "t", "param": null, "code": "insufficient_quota"}}'
    with Stub([answer(429, refusal)]) as stub, pytest.raises(Refused) as caught:
        list(Client(f"http://127.0.0.1:{stub.port}", KEY).stream({}, Turn()))
    assert (caught.value.status, caught.value.code) == (429, "insufficient_quota")


# ── with a running gateway ───────────────────────────────────────────────────────────────────────

HEADGATE = str(Path(sys.executable).with_name("headgate"))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Give address and data folder of a running simulator."""
    folder = tmp_path_factory.mktemp("chat")
    data = str(folder / "data")
    process = subprocess.Popen(
        [HEADGATE, "sim", "--port", "0", "--data", data],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            break
    found = re.search(r"http://\S+/v1", said)
    assert found, said
    yield found[0], data
    process.terminate()
    process.communicate(timeout=30)


def test_a_chat_makes_its_own_key_and_revokes_it(run: Run, gateway: tuple[str, str]) -> None:
    url, data = gateway
    result = run("chat", "--url", url, "--data", data, "--json", "Say hello")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["text"]
    assert said["simulated"]
    assert said["cost_nano_usd"] > 0
    rows = json.loads(run("keys", "list", "--data", data, "--all", "--json").stdout)
    assert [row["state"] for row in rows if row["name"] == "chat"] == ["revoked"]
    calls = json.loads(run("usage", "--data", data, "--calls", "--json").stdout)
    [call] = [row for row in calls if row["request_id"] == said["request_id"]]
    assert call["cost_nano_usd"] == said["cost_nano_usd"]
    assert (call["input_tokens"], call["output_tokens"]) == (said["input_tokens"], said["output_tokens"])


def test_a_chat_with_another_folders_keys_says_so(run: Run, gateway: tuple[str, str]) -> None:
    run("keys", "create", "--name", "a")
    result = run("chat", "--url", gateway[0], "hi")
    assert result.exit_code == 3
    assert "does not know the keys of this data folder" in result.stderr


def test_a_simulator_without_a_folder_leaves_none_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [HEADGATE, "sim", "--port", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1", "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "Ctrl-C" in line:
            break
    assert len(list(tmp_path.iterdir())) == 1
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_turn_by_turn_the_history_grows_until_it_is_forgotten(gateway: tuple[str, str]) -> None:
    url, data = gateway
    program = (
        "import sys; sys.argv = ['headgate', 'chat', '--url', sys.argv[1], '--data', sys.argv[2]]; "
        "from headgate.__main__ import main; main()"
    )
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program, url, data],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(slave)
    os.write(master, b"Say hello\nSay hello\n/new\nSay hello\n/help\n/model sim-500\nboom\n/exit\n")
    out, err = process.communicate(timeout=30)
    os.close(master)
    assert process.returncode == 0, err
    tokens = [int(count) for count in re.findall(r"(\d+) tokens in", err)]
    assert len(tokens) == 3
    assert tokens[1] > tokens[0] == tokens[2]
    assert "so far" in err
    assert "HTTP 500" in err
    assert "/exit or Ctrl-D" in err
    assert out.count("> ") >= 7
