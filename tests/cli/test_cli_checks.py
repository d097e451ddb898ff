import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.cli.stub import Stub, answer

from headgate.program import without_password
from headgate.settings.storage import database_url
from headgate.stores.sql.database import connect
from headgate.stores.sql.folder import lock_folder

Say = Callable[..., Any]


def findings(run: Run, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    result = run("doctor", "--json", *arguments)
    rows = json.loads(result.stdout)["findings"]
    return result.exit_code, {row["about"]: row for row in rows}


def test_a_configuration_is_explained(
    say: Say, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-mine")
    (tmp_path / "h.toml").write_text('[server]\nport = 9000\n[budget]\ncap = "20/month"\n')
    said = say("config", "check", "--config", "h.toml")
    assert said["server"]["port"] == 9000
    assert said["found"] == ["openai (from OPENAI_API_KEY)"]
    text = run("config", "check", "--config", "h.toml").output
    assert "$20.00 per month" in text
    assert "sk-secret" not in text + json.dumps(said)


def test_a_file_whose_models_the_simulator_answers_says_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "h.toml").write_text(
        '[[models]]\nname = "play"\ntargets = [{ provider = "simulator", model = "gpt-4o" }]\n'
    )
    text = run("config", "check", "--config", "h.toml").output
    assert "none: the simulator answers play; no other model is served" in text


def test_what_replicas_share_is_shown_without_a_password(run: Run, tmp_path: Path) -> None:
    (tmp_path / "h.toml").write_text(
        '[storage]\ndatabase = "postgresql://me:geheim@db.example/books"\nqueue = "amqp://me:geheim@rabbit.example/"\n'
        '[files]\nstorage = "/mnt/shared"\n'
    )
    for words in ((), ("--json",)):
        output = run("config", "check", "--config", "h.toml", *words).output
        assert "postgresql://me@db.example/books" in output
        assert "amqp://me@rabbit.example/" in output
        assert "geheim" not in output
    assert "/mnt/shared" in run("config", "check", "--config", "h.toml").output


@pytest.mark.parametrize("setting", ["database", "redis", "queue"])
@pytest.mark.parametrize(
    "password", ["ge/heim", "ge#heim", "12/heim", "ge?heim", "12?heim", "ge@a/heim", "[heim"]
)
def test_an_address_whose_password_ends_it_too_early_is_refused_and_not_shown(
    run: Run, tmp_path: Path, setting: str, password: str
) -> None:
    scheme = {"database": "postgresql", "redis": "redis", "queue": "amqp"}[setting]
    (tmp_path / "h.toml").write_text(f'[storage]\n{setting} = "{scheme}://me:{password}@db.example/1"\n')
    result = run("config", "check", "--config", "h.toml")
    assert result.exit_code == 1
    assert f"storage.{setting} '{scheme}://...' cannot be read" in result.stderr
    assert "/ as %2F" in result.stderr
    assert "heim" not in result.output + result.stderr


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://me:ge%2Fheim@rabbit:5672/", "amqp://me@rabbit:5672/"),
        ("amqp://me:ge/heim@rabbit:5672/", "amqp://..."),
        ("me:geheim@rabbit", "..."),
        ("postgresql://db/books?user=me@corp&password=geheim", "postgresql://..."),
        ("redis://me:x@cache:6379/0", "redis://me@cache:6379/0"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_what_may_be_a_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db/books?user=me@corp",
        "postgresql://me:x%2Fy@one:5432,two:5433/books",
        "postgresql:///books",
    ],
)
def test_an_address_that_can_be_read_is_taken(url: str) -> None:
    assert database_url(url, {}, {}) == url


@pytest.mark.parametrize(
    "content",
    [
        "[server]\nporty = 1\n",
        "[server\n",
        '[budget]\ncap = "much"\n',
        '[aliases]\na = "b"\nb = "a"\n',
    ],
)
def test_a_configuration_that_cannot_be_used_exits_1(run: Run, tmp_path: Path, content: str) -> None:
    (tmp_path / "h.toml").write_text(content)
    result = run("config", "check", "--config", "h.toml")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")


def test_what_a_configuration_leaves_open_is_said(say: Say, run: Run, tmp_path: Path) -> None:
    (tmp_path / "h.toml").write_text(
        '[[providers]]\nname = "corp"\nbase_url = "http://127.0.0.1:1/v1"\napi_key = "env:CORP_KEY"\n'
        'models = ["c-*"]\n[aliases]\ngood = "c-1"\nbad = "gpt-4o"\n'
    )
    assert say("config", "check", "--config", "h.toml")["unserved"] == ["bad"]
    text = run("config", "check", "--config", "h.toml").output
    assert "missing for corp" in text
    assert "No provider here serves bad" in text
    (tmp_path / "empty.toml").write_text("")
    assert "calls get 503" in run("config", "check", "--config", "empty.toml").output


def test_a_new_machine_is_healthy(run: Run, tmp_path: Path) -> None:
    code, found = findings(run, "--port", str(free_port()))
    assert code == 0, found
    assert found["data folder"]["state"] == "note"
    assert "simulator" in found["providers"]["says"]
    assert found["address"]["state"] == "ok"
    assert not (tmp_path / "headgate-data").exists()


def test_a_client_key_and_url_are_left_to_the_client(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-hg-live-x\nOPENAI_BASE_URL=http://127.0.0.1:8787/v1\n")
    _, found = findings(run, "--port", str(free_port()))
    assert found["left to your programs"]["says"] == "OPENAI_API_KEY, OPENAI_BASE_URL"
    assert found["providers"]["state"] == "note"


def test_a_port_that_another_program_has_is_a_fault(run: Run) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        code, found = findings(run, "--port", str(bound.getsockname()[1]))
    assert code == 1
    assert "another program" in found["address"]["says"]


def test_a_port_that_a_gateway_has_is_fine(run: Run) -> None:
    with Stub([answer(200, b'{"status":"ready"}')]) as stub:
        code, found = findings(run, "--port", str(stub.port))
    assert (code, found["address"]["says"]) == (0, f"a gateway serves on 127.0.0.1:{stub.port}")


def test_a_folder_that_is_served_at_another_address_is_not_to_be_started(run: Run, tmp_path: Path) -> None:
    folder, port = tmp_path / "headgate-data", free_port()
    folder.mkdir()
    with lock_folder(folder):
        _, found = findings(run, "--port", str(port))
    says = f"127.0.0.1:{port} is free: process {os.getpid()} serves headgate-data at another address"
    assert found["address"]["says"] == says
    _, found = findings(run, "--port", str(port))
    assert "start with" in found["address"]["says"]


def test_a_gateway_that_is_not_ready_is_a_fault(run: Run) -> None:
    with Stub([answer(503, b'{"status":"unavailable","reason":"shutting down"}')]) as stub:
        code, found = findings(run, "--port", str(stub.port))
    assert code == 1
    assert "not ready: shutting down" in found["address"]["says"]


def test_a_folder_without_its_pepper_is_a_fault(run: Run, tmp_path: Path) -> None:
    run("keys", "create", "--name", "a")
    (tmp_path / "headgate-data" / "pepper").unlink()
    code, found = findings(run, "--port", str(free_port()))
    assert code == 1
    assert "pepper" in found["data folder"]["says"]


def test_a_pepper_that_others_can_read_is_a_warning(run: Run, tmp_path: Path) -> None:
    run("keys", "create", "--name", "a")
    os.chmod(tmp_path / "headgate-data" / "pepper", 0o644)
    code, found = findings(run, "--port", str(free_port()))
    assert code == 0
    assert found["permissions"]["state"] == "warning"


def test_a_schema_of_a_newer_version_is_a_fault(run: Run, tmp_path: Path) -> None:
    run("keys", "create", "--name", "a")
    sql = connect(tmp_path / "headgate-data")
    sql.execute("UPDATE alembic_version SET version_num = '9999'")
    sql.close()
    code, found = findings(run, "--port", str(free_port()))
    assert code == 1
    assert "newer" in found["data folder"]["says"]
    assert run("db", "status").exit_code == 1


def test_a_clock_behind_the_books_is_a_fault(run: Run, tmp_path: Path) -> None:
    run("keys", "create", "--name", "a")
    sql = connect(tmp_path / "headgate-data")
    sql.execute("UPDATE changes SET at = 4000000000000000")
    sql.close()
    code, found = findings(run, "--port", str(free_port()))
    assert code == 1
    assert "yet the books have 2096" in found["clock"]["says"]


def test_a_broken_configuration_is_the_last_thing_looked_at(run: Run, tmp_path: Path) -> None:
    (tmp_path / "h.toml").write_text("[server\n")
    code, found = findings(run, "--config", "h.toml")
    assert code == 1
    assert "not valid TOML" in found["configuration"]["says"]


def test_the_findings_are_readable(run: Run) -> None:
    text = run("doctor", "--port", str(free_port())).output
    assert "Nothing is wrong." in text
    assert "ok  versions: Headgate" in text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
