"""What `headgate doctor` finds out about the way to providers that do what a test says."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.cli.test_cli_checks import findings, free_port
from tests.upstream import HANG, ScriptedUpstream, error_json, http_answer, json_answer

from headgate.cli import reach
from headgate.values import Deadlines

MODELS = json_answer({"object": "list", "data": []})
REGION = {
    "error": {"code": "unsupported_country_region_territory", "message": "no", "type": "request_forbidden"}
}


def doctor(
    run: Run, folder: Path, base_url: str, keys: str = 'api_key = "sk-canary"'
) -> tuple[int, dict[str, Any]]:
    """Return the exit code and what is said of the providers."""
    (folder / "h.toml").write_text(f'[[providers]]\nname = "far"\nbase_url = "{base_url}"\n{keys}\n')
    code, found = findings(run, "--port", str(free_port()), "--config", "h.toml")
    assert "canary" not in json.dumps(found)
    return code, {about: row for about, row in found.items() if about.startswith("provider far")}


def test_a_provider_is_measured_and_asked_for_nothing_that_is_billed(run: Run, tmp_path: Path) -> None:
    with ScriptedUpstream(MODELS) as upstream:
        code, found = doctor(run, tmp_path, upstream.base_url)
        [request] = upstream.requests
    assert (request.method, request.path) == ("GET", "/v1/models")
    assert request.get("authorization") == "Bearer sk-canary"
    row = found["provider far"]
    assert (code, row["state"]) == (0, "ok")
    assert "its key is accepted" in row["says"]
    assert set(row["measured"]) == {"connect_ms", "first_byte_ms"}  # an address, and no TLS
    assert all(value >= 0 for value in row["measured"].values())


def test_a_name_is_looked_up_and_each_key_is_tried(run: Run, tmp_path: Path) -> None:
    with ScriptedUpstream(MODELS, error_json(401)) as upstream:
        url = upstream.base_url.replace("127.0.0.1", "localhost")
        code, found = doctor(run, tmp_path, url, 'api_keys = ["sk-canary-1", "sk-canary-2"]')
    assert (code, len(found)) == (1, 2)
    assert "dns_ms" in found["provider far, key 1"]["measured"]
    assert found["provider far, key 1"]["state"] == "ok"
    refused = found["provider far, key 2"]
    assert refused["state"] == "fault"
    assert "it refuses the key (401)" in refused["says"]
    assert "check the key" in refused["advice"]


def test_each_region_and_each_address_is_measured_by_itself(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1", "127.0.0.2", "127.0.0.1"]

    monkeypatch.setattr(reach, "system_resolve", resolve)
    with ScriptedUpstream(MODELS) as near, ScriptedUpstream(MODELS) as far:
        text = "".join(
            f'[[providers]]\nname = "{name}"\nbase_url = "{url}"\nregion = "{region}"\n'
            'api_key = "sk-canary"\nmodels = []\n'
            for name, url, region in (
                ("far-eu", near.base_url, "eu"),
                ("far-us", far.base_url.replace("127.0.0.1", "localhost"), "us-east"),
            )
        )
        (tmp_path / "h.toml").write_text(text)
        code, found = findings(run, "--port", str(free_port()), "--config", "h.toml")
    assert code == 0
    rows = {about: row for about, row in found.items() if about.startswith("provider far")}
    assert list(rows) == [
        "provider far-eu (eu)",
        "provider far-us (us-east)",
        "provider far-us (us-east), address 127.0.0.1",
        "provider far-us (us-east), address 127.0.0.2",
    ]
    *reached, refused = rows.values()
    assert {row["state"] for row in reached} == {"ok"}
    assert all({"connect_ms", "first_byte_ms"} <= set(row["measured"]) for row in reached)
    assert (refused["state"], refused["measured"]) == ("note", {})
    assert "refused" in refused["says"]


def test_a_country_that_is_not_served_is_said_with_what_to_do(run: Run, tmp_path: Path) -> None:
    answer = http_answer(json.dumps(REGION).encode(), 403, [("content-type", "application/json")])
    with ScriptedUpstream(answer) as upstream:
        code, found = doctor(run, tmp_path, upstream.base_url)
    row = found["provider far"]
    assert (code, row["state"]) == (1, "fault")
    assert "the country is not served" in row["says"]
    assert "`proxy`" in row["advice"]


@pytest.mark.parametrize(
    ("status", "state", "says"),
    [
        (404, "note", "its key was not tried (404)"),
        (405, "ok", "its key was not tried (405)"),
        (429, "warning", "it limits the rate (429)"),
        (503, "warning", "it answers 503"),
    ],
)
def test_other_answers_are_told_as_what_they_are(
    run: Run, tmp_path: Path, status: int, state: str, says: str
) -> None:
    with ScriptedUpstream(error_json(status)) as upstream:
        code, found = doctor(run, tmp_path, upstream.base_url)
    assert (code, found["provider far"]["state"]) == (0, state)
    assert says in found["provider far"]["says"]
    assert ("often ends in /v1" in found["provider far"].get("advice", "")) is (status == 404)


def test_without_a_key_it_is_only_reached(run: Run, tmp_path: Path) -> None:
    with ScriptedUpstream(error_json(401)) as upstream:
        code, found = doctor(run, tmp_path, upstream.base_url, 'api_key = "stored:canary"')
        [request] = upstream.requests
    assert request.get("authorization") is None
    assert (code, found["provider far"]["state"]) == (0, "ok")


def test_a_name_that_does_not_resolve(run: Run, tmp_path: Path) -> None:
    code, found = doctor(run, tmp_path, "http://no-such-provider.invalid/v1")
    row = found["provider far"]
    assert (code, row["state"], row["measured"]) == (1, "fault", {})
    assert row["says"] == "the name no-such-provider.invalid does not resolve"
    assert "resolver" in row["advice"]


def test_a_port_on_which_nobody_listens(run: Run, tmp_path: Path) -> None:
    port = free_port()
    code, found = doctor(run, tmp_path, f"http://127.0.0.1:{port}/v1")
    assert code == 1
    assert found["provider far"]["says"] == f"127.0.0.1:{port}: the connection was refused"
    assert "firewall" in found["provider far"]["advice"]


def test_a_port_that_speaks_no_tls(run: Run, tmp_path: Path) -> None:
    def answer(listening: socket.socket) -> None:
        peer, _ = listening.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        code, found = doctor(run, tmp_path, f"https://127.0.0.1:{listening.getsockname()[1]}/v1")
        thread.join()
    assert code == 1
    assert "TLS failed" in found["provider far"]["says"]
    assert "connect_ms" in found["provider far"]["measured"]
    assert "check port and scheme" in found["provider far"]["advice"]


def test_who_is_silent_is_not_waited_for_for_long(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Deadlines(connect_s=5, first_byte_s=0.2, between_frames_s=0.2, total_s=0.5)
    monkeypatch.setattr(reach, "_DEADLINES", short)
    with ScriptedUpstream([HANG]) as upstream:
        code, found = doctor(run, tmp_path, upstream.base_url)
    assert code == 1
    assert "within" in found["provider far"]["says"]
    with socket.socket() as listening:  # TLS never begins
        monkeypatch.setattr(reach, "_STEP_S", 0.2)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        code, found = doctor(run, tmp_path, f"https://127.0.0.1:{listening.getsockname()[1]}/v1")
    assert code == 1
    assert "no answer within 0.2 s" in found["provider far"]["says"]


def test_a_proxy_is_gone_through(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    code, found = doctor(run, tmp_path, "http://192.0.2.7/v1")
    assert code == 1
    assert "through 127.0.0.1:" in found["provider far"]["says"]


def test_offline_nobody_is_asked(run: Run, tmp_path: Path) -> None:
    with ScriptedUpstream(MODELS) as upstream:
        (tmp_path / "h.toml").write_text(
            f'[[providers]]\nname = "far"\nbase_url = "{upstream.base_url}"\napi_key = "sk-canary"\n'
        )
        result = run("doctor", "--offline", "--port", str(free_port()), "--config", "h.toml")
        assert result.exit_code == 0
        assert upstream.requests == []
