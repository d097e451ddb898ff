"""What compose.full.yaml composes, started on this machine: two replicas behind its balancer, on PostgreSQL and Redis."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from tests.surfaces.conftest import HEADGATE, Gateway, InstalledGateway

DEPLOY = Path(__file__).parents[2] / "deploy"
SERVER = "postgresql://postgres@127.0.0.1:5432/"
HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say pong"}]}


def psql(statement: str) -> None:
    subprocess.run(["psql", "-q", "-c", statement, SERVER + "postgres"], check=True, capture_output=True)


@pytest.fixture
def database() -> Iterator[str]:
    name = f"headgate_deploy_{secrets.token_hex(4)}"
    psql(f"CREATE DATABASE {name}")
    yield SERVER + name
    psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def replicas(tmp_path: Path, database: str) -> Iterator[list[Gateway]]:
    text = (DEPLOY / "headgate.full.toml").read_text("utf-8")
    text = re.sub(r"^(port|monitor_port|queue|leave_s|host) = .*\n", "", text, flags=re.MULTILINE)
    text = text.replace("redis://redis:6379/0", "redis://127.0.0.1:6379/0")
    text = text.replace('"172.16.0.0/12"]', '"172.16.0.0/12", "127.0.0.1/32"]')
    text = text.replace('storage = "/files"', f'storage = "{tmp_path / "files"}"')
    text = text.replace("[storage]", f'[storage]\nredis_prefix = "{database.rpartition("/")[2]}"')
    (tmp_path / "headgate.full.toml").write_text(
        text
        + '\n[[models]]\nname = "gpt-4o-mini"\ntargets = [{ provider = "simulator", model = "gpt-4o-mini" }]\n'
    )
    pepper, started = secrets.token_hex(32), []
    for name in ("headgate-1", "headgate-2"):
        folder = tmp_path / name
        (folder / "data").mkdir(parents=True, mode=0o700)
        (folder / "data/pepper").touch(0o600)
        (folder / "data/pepper").write_text(pepper)
        variables = {"HEADGATE_DATABASE": database, "HEADGATE_NODE": name}
        started.append(
            InstalledGateway(folder, "--config", str(tmp_path / "headgate.full.toml"), **variables)
        )
    yield started
    for gateway in started:
        assert gateway.stop()[0] == 0


@pytest.fixture
def balancer(tmp_path: Path, replicas: list[Gateway]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    text = (DEPLOY / "proxy/balancer.conf").read_text("utf-8")
    for name, gateway in zip(("headgate-1", "headgate-2"), replicas, strict=True):
        text = text.replace(f"{name}:8787", gateway.base.removeprefix("http://").removesuffix("/v1"))
    assert text.count(" resolve;") == 2  # nginx 1.27.3 has it, the one of this machine may not
    text = text.replace(" resolve;", ";")
    text = text.replace("/tmp/", f"{tmp_path}/").replace("listen 8080", f"listen 127.0.0.1:{port}")
    (tmp_path / "balancer.conf").write_text("daemon off;\n" + text)
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen([nginx, "-c", tmp_path / "balancer.conf"], stderr=subprocess.PIPE)
    yield f"http://127.0.0.1:{port}/v1"
    process.terminate()
    process.communicate(timeout=20)


def call(base: str, key: str, **headers: str) -> httpx.Response:
    for _ in range(50):
        try:
            return httpx.post(
                f"{base}/chat/completions", json=HELLO, headers={"authorization": f"Bearer {key}", **headers}
            )
        except httpx.ConnectError:
            time.sleep(0.1)
    raise AssertionError("nobody listens")


@pytest.mark.nginx
@pytest.mark.services("postgresql", "redis")
def test_two_replicas_are_one_gateway(replicas: list[Gateway], balancer: str, database: str) -> None:
    first, second = replicas
    key = first.key
    assert key
    assert second.key == ""
    for base in (first.base, second.base, *[balancer] * 6):
        answer = call(base, key)
        assert answer.status_code == 200, answer.text
    made = json.loads(command(second, database, "keys", "create", "--name", "late", "--json").stdout)
    here = ("--name", "near", "--network", "203.0.113.0/24", "--json")
    near = json.loads(command(second, database, "keys", "create", *here).stdout)["key"]
    time.sleep(1)
    assert call(first.base, made["key"]).status_code == 200
    file_is_everywhere(key, first.base, second.base, balancer)
    assert httpx.get(balancer.removesuffix("/v1") + "/metrics").status_code == 404

    assert call(balancer, near).json()["error"]["code"] == "ip_not_authorized"
    assert (
        call(balancer, near, **{"x-forwarded-for": "203.0.113.7"}).status_code == 200
    )  # as a proxy in front says

    second.process.terminate()  # the balancer goes on with the other one
    second.process.wait(timeout=40)
    assert {call(balancer, key).status_code for _ in range(6)} == {200}
    time.sleep(1.5)
    checked = command(first, database, "ledger", "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert re.search(r"\b16 calls", checked.stdout)


def file_is_everywhere(key: str, brought_to: str, *asked: str) -> None:
    own, lines = {"authorization": f"Bearer {key}"}, b'{"custom_id": "a"}\n'
    form = {"files": {"file": ("lines.jsonl", lines)}, "data": {"purpose": "batch"}}
    brought = httpx.post(f"{brought_to}/files", headers=own, **form)
    assert brought.status_code == 200, brought.text
    for base in (brought_to, *asked, *asked):
        answer = httpx.get(f"{base}/files/{brought.json()['id']}/content", headers=own)
        assert (answer.status_code, answer.content) == (200, lines), base


def command(gateway: Gateway, database: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HEADGATE, *words, "--data", str(gateway.data)],
        env={**os.environ, "HEADGATE_DATABASE": database},
        cwd=gateway.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
