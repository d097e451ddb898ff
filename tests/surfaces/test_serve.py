"""Starting, running and stopping, as a person does it."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import openai
import pytest
from tests.surfaces.clients import openai_client
from tests.surfaces.conftest import HEADGATE, Gateway, InstalledGateway, plain_environment
from tests.surfaces.forks import run as run_forked

HELLO = [{"role": "user", "content": "Say pong"}]


def client(gateway: Gateway, key: str | None = None) -> openai.OpenAI:
    return openai_client(gateway.base, key or gateway.key)


def shell(script: str, folder: Path, **environment: str) -> str:
    """Run lines that were printed, as they were printed."""
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        env=plain_environment(**environment),
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tried(gateway: Gateway, exports: str = "") -> tuple[str, str]:
    """Paste the program and the curl line that a start printed; return what they say."""
    heading, program = gateway.said.split("Or in Python")[1].split("\n\n")[0].split("\n", 1)
    interpreter = heading.partition("run with ")[2].removesuffix("):")
    assert len(program.splitlines()) == 5
    (gateway.folder / "example.py").write_text(program)
    curl = gateway.said.split("Try it:\n")[1].split("\n\n")[0]
    return tuple(shell(f"{exports}\n{line}", gateway.folder) for line in (interpreter, curl))  # type: ignore[return-value]


def test_the_first_start_prints_all_that_one_needs(tmp_path):
    gateway = InstalledGateway(tmp_path)
    try:
        assert "simulator answers" in gateway.said
        assert gateway.key
        program, curl = tried(gateway)
        assert program == "hello\n"
        assert '"chat.completion"' in curl
    finally:
        code, out, err = gateway.stop(signal.SIGINT)
    assert (code, err) == (0, "")
    assert "Stopped." in out


def test_the_key_is_printed_once_and_the_next_start_says_how_to_get_another(tmp_path):
    first = InstalledGateway(tmp_path)
    first.stop()
    second = InstalledGateway(tmp_path, program=[sys.executable, "-m", "headgate"])
    try:
        assert second.key == ""
        assert client(second, first.key).models.list().data
        exports = second.said.split("with a new key:\n")[1].split("\n\n")[0]
        assert " -m headgate keys create" in exports
        assert tried(second, f"{exports}\nsleep 1")[0] == "hello\n"
    finally:
        second.stop()


def test_the_simulator_alone_says_what_it_is(tmp_path):
    gateway = InstalledGateway(tmp_path, command="sim", OPENAI_API_KEY="sk-real")
    try:
        assert "The simulator answers every call, in play money." in gateway.said
        assert "sim-429" in gateway.said
        assert "start again" not in gateway.said
        assert client(gateway).chat.completions.create(model="gpt-4o", messages=HELLO).choices
    finally:
        gateway.stop()


@pytest.mark.parametrize("model", ["own-large", "own-*"])
def test_the_first_try_of_a_host_of_ones_own_is_no_built_in_model(tmp_path, model):
    provider = f'[[providers]]\nname = "mine"\nbase_url = "http://127.0.0.1:9/v1"\nmodels = ["{model}"]\n'
    (tmp_path / "headgate.toml").write_text(provider)
    gateway = Gateway(tmp_path, "--config", "headgate.toml")
    try:
        assert f'"model": "{model}"' in gateway.said
        assert "headgate-lexical" not in gateway.said
    finally:
        gateway.stop()


@pytest.mark.parametrize(
    ("environment", "model"), [({"DASHSCOPE_API_KEY": "sk-x"}, "qwen-plus"), ({"ARK_API_KEY": "x"}, "doubao")]
)
def test_the_first_try_names_a_model_that_is_served(tmp_path, environment, model):
    gateway = Gateway(tmp_path, **environment)
    try:
        curl = gateway.said.split("Try it:\n")[1].split("\n\n")[0]
        assert f'"model": "{model}' in curl
        page = urllib.request.urlopen(gateway.base.removesuffix("/v1")).read().decode()
        assert model in page
        assert "gpt-4o-mini" not in page
    finally:
        gateway.stop()


def test_the_clients_own_env_file_confuses_nothing(tmp_path):
    dotenv = "OPENAI_BASE_URL=http://127.0.0.1:8787/v1\nOPENAI_API_KEY=sk-hg-live-abc\n"
    gateway = Gateway(tmp_path, dotenv=dotenv)
    try:
        assert "simulator answers" in gateway.said
        assert client(gateway).chat.completions.create(model="gpt-4o", messages=HELLO).usage.total_tokens > 0
    finally:
        gateway.stop()


def test_a_provider_in_the_env_file_is_found_and_the_simulator_stays_away_for_ever(tmp_path):
    first = Gateway(tmp_path, dotenv="OPENAI_API_KEY=sk-provider\n")
    assert "openai (from OPENAI_API_KEY)" in first.said
    first.stop()
    (tmp_path / ".env").unlink()
    gateway = Gateway(tmp_path)
    try:
        assert "The simulator does not step in" in gateway.said
        with pytest.raises(openai.InternalServerError) as caught:
            client(gateway, first.key).chat.completions.create(model="gpt-4o", messages=HELLO)
        assert caught.value.status_code == 503
        assert "OPENAI_API_KEY" in caught.value.message
    finally:
        gateway.stop()


def test_keys_made_and_revoked_while_it_runs_are_seen_within_a_second(simulated):
    made = json.loads(simulated.command("keys", "create", "--name", "late", "--json").stdout)
    deadline = time.monotonic() + 1
    while True:
        try:
            client(simulated, made["key"]).models.list()
            break
        except openai.AuthenticationError:
            assert time.monotonic() < deadline
    assert simulated.command("keys", "revoke", "late").returncode == 0
    deadline = time.monotonic() + 1
    said = ""
    while not said:
        assert time.monotonic() < deadline
        try:
            client(simulated, made["key"]).models.list()
        except openai.AuthenticationError as error:
            said = error.message
    assert "revoked" in said


def test_usage_and_the_ledger_agree_with_what_was_answered(tmp_path):
    gateway = Gateway(tmp_path, "--prices", "guide-2025")
    try:
        raw = client(gateway).chat.completions.with_raw_response.create(model="gpt-4", messages=HELLO)
        usage = raw.parse().usage
        done = gateway.command("usage", "--calls", "--json")
        calls = json.loads(done.stdout)
        [call] = calls["calls"] if isinstance(calls, dict) else calls
        assert call["request_id"] == raw.headers["x-request-id"]
        assert (call["input_tokens"], call["output_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)
        due = usage.prompt_tokens * 30_000 + usage.completion_tokens * 60_000
        assert call["cost_nano_usd"] == due
        assert (call["model"], call["status"], call["estimated"]) == ("gpt-4", 200, False)
        assert gateway.command("ledger", "check").returncode == 0
    finally:
        gateway.stop()
    assert gateway.command("ledger", "check").returncode == 0


def test_a_cap_in_play_money_holds_and_says_so(tmp_path):
    gateway = Gateway(tmp_path, "--cap", "0.0001/month")
    try:
        with pytest.raises(openai.RateLimitError) as caught:
            client(gateway).chat.completions.create(model="gpt-4", messages=HELLO, max_tokens=500)
        assert caught.value.code == "organization_spend_limit_exceeded"
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert "per month" in caught.value.message
    finally:
        gateway.stop()


def test_a_second_server_on_the_same_data_refuses_and_names_the_first(simulated, tmp_path):
    words = [HEADGATE, "serve", "--port", "0", "--data", str(simulated.data)]
    done = run_forked(words, tmp_path, plain_environment(), timeout=30)
    assert done.returncode != 0
    assert str(simulated.process.pid) in done.stderr


def test_a_taken_port_is_said_plainly(simulated, tmp_path):
    port = simulated.base.split(":")[2].split("/")[0]
    words = [HEADGATE, "serve", "--port", port, "--data", str(tmp_path / "d")]
    done = run_forked(words, tmp_path, plain_environment(), timeout=30)
    assert done.returncode != 0
    assert "taken by another program" in done.stderr


def test_a_model_that_the_file_gives_the_simulator_is_named_at_the_start(tmp_path):
    (tmp_path / "h.toml").write_text(
        '[[models]]\nname = "play"\ntargets = [{ provider = "simulator", model = "gpt-4o" }]\n'
    )
    gateway = Gateway(tmp_path, "--config", str(tmp_path / "h.toml"))
    try:
        assert "The simulator answers play, as the file says." in gateway.said
        answer = client(gateway).chat.completions.create(model="play", messages=HELLO)
        assert answer.usage.total_tokens > 0
        with pytest.raises(openai.NotFoundError):
            client(gateway).chat.completions.create(model="gpt-4o", messages=HELLO)
    finally:
        gateway.stop()


def test_the_start_page_and_the_metrics(simulated):
    root = simulated.base.removesuffix("/v1")
    page = urllib.request.urlopen(f"{root}/?lang=zh").read().decode()
    assert "Headgate 正在运行" in page
    metrics = urllib.request.urlopen(f"{root}/metrics").read().decode()
    assert "headgate_ready 1.0" in metrics
    assert urllib.request.urlopen(f"{root}/healthz").status == 200
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{root}/nothing-here")
    with caught.value as answer:
        assert answer.headers["x-request-id"].startswith("req_")
        assert json.load(answer)["error"]["code"] == "unknown_url"


def test_a_served_call_imports_nothing_heavy(tmp_path):
    code = (
        "import sys, headgate.serving\n"
        "heavy = {'starlette', 'sqlalchemy', 'alembic', 'prometheus_client', 'tiktoken', 'jinja2', 'rich',"
        " 'structlog', 'uvicorn', 'websockets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_reading_the_metrics_brings_in_neither_the_site_nor_the_admin_api(tmp_path):
    code = (
        "import sys, headgate.serving, headgate.observe.prometheus\n"
        "from headgate.http.dataplane import DataPlane\n"
        "assert DataPlane(None, 1, 1).find(b'GET', '/metrics') is not None\n"
        "assert DataPlane(None, 1, 1).find_health(b'GET', '/metrics') is not None\n"
        "heavy = {'starlette', 'sqlalchemy', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
