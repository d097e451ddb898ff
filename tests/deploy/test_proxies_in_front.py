"""The examples of proxies: taken by the proxies themselves, and a stream through nginx with TLS as it comes."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from tests.surfaces.conftest import Gateway

from headgate.config import Server
from headgate.settings.files import FileSettings

ROOT = Path(__file__).parents[2]
NGINX = ROOT / "deploy/proxy/nginx.conf"
CADDY = ROOT / "deploy/proxy/Caddyfile"
ASKED = {"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "Count to 20"}]}


@pytest.mark.caddy
def test_caddy_takes_its_example(tmp_path: Path) -> None:
    for text, code in (
        (CADDY.read_text(), 0),
        (CADDY.read_text().replace("flush_interval", "flush_internal"), 1),
    ):
        (tmp_path / "Caddyfile").write_text(text)
        done = subprocess.run(
            ["caddy", "adapt", "--config", str(tmp_path / "Caddyfile")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Nginx:
    """nginx with the example's text, at a port of its own, before a gateway."""

    def __init__(self, folder: Path, text: str, gateway: str) -> None:
        folder.mkdir()
        self.port = free_port()
        names = {
            "listen 443": f"listen 127.0.0.1:{self.port}",
            "server 127.0.0.1:8787": f"server {gateway.removeprefix('http://').removesuffix('/v1')}",
            "/etc/ssl/ai.example.com.pem": f"{folder}/pem",
            "/etc/ssl/private/ai.example.com.key": f"{folder}/key",
        }
        for there, here in names.items():
            assert there in text
            text = text.replace(there, here)
        (folder / "headgate.conf").write_text(text)
        paths = "".join(
            f"{name}_temp_path {folder}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
            f"http {{ access_log off; {paths} include {folder}/headgate.conf; }}\n"
        )
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=ai.example.com",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key", "-out", folder / "pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        self.process = subprocess.Popen([nginx, "-c", folder / "nginx.conf"], stderr=subprocess.PIPE)
        self.authority = folder / "pem"
        deadline = time.monotonic() + 10
        while not listens(self.port):
            if self.process.poll() is not None:
                _, said = self.process.communicate()
                raise AssertionError(said.decode())
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)


@pytest.fixture
def nginx(tmp_path: Path, simulated: Gateway) -> Iterator[Nginx]:
    made = Nginx(tmp_path / "nginx", NGINX.read_text("utf-8"), simulated.base)
    yield made
    made.stop()


def first_and_last(nginx: Nginx, key: str) -> tuple[float, float]:
    """Return when the first and the last bytes of a stream of a second came, in seconds."""
    headers = {"authorization": f"Bearer {key}", "x-headgate-sim": "chunk_ms=30; tokens=30"}
    with httpx.Client(
        base_url=f"https://127.0.0.1:{nginx.port}", verify=ssl.create_default_context(cafile=nginx.authority)
    ) as client:
        began, times = time.monotonic(), []
        with client.stream("POST", "/v1/chat/completions", json=ASKED, headers=headers) as answer:
            assert answer.status_code == 200
            times = [time.monotonic() - began for part in answer.iter_raw() if part]
    return times[0], times[-1]


@pytest.mark.nginx
def test_a_stream_passes_nginx_as_it_comes(nginx: Nginx, simulated: Gateway) -> None:
    tries = [first_and_last(nginx, simulated.key) for _ in range(3)]  # a busy machine is late with some

    assert all(last > 0.6 for _, last in tries)
    assert any(first < last / 2 for first, last in tries)


@pytest.mark.nginx
def test_nginx_keeps_the_metrics_inside_and_lets_sockets_and_long_forms_through(
    nginx: Nginx, simulated: Gateway
) -> None:
    headers = {"authorization": f"Bearer {simulated.key}"}
    with httpx.Client(
        base_url=f"https://127.0.0.1:{nginx.port}", verify=ssl.create_default_context(cafile=nginx.authority)
    ) as client:
        assert client.get("/metrics").status_code == 404
        assert client.get("/healthz").json() == {"status": "ok"}
        # nginx alone takes 1 MB; what is longer than the model's window is the gateway's to say.
        long = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello " * 400_000}]}
        refused = client.post("/v1/chat/completions", json=long, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
        upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
        asked = {**headers, **upgrade, "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
        path = "/realtime?model=nope"
        socketed, direct = (
            client.get("/v1" + path, headers=asked),
            httpx.get(simulated.base + path, headers=asked),
        )
        plain = client.get("/v1" + path, headers=headers)
        assert (socketed.status_code, socketed.text) == (direct.status_code, direct.text)
        assert socketed.status_code != plain.status_code or socketed.text != plain.text


@pytest.mark.nginx
def test_a_part_of_the_greatest_length_passes_nginx(nginx: Nginx, simulated: Gateway) -> None:
    length = 64 << 20  # as `client.uploads.upload_file_chunked` cuts them; its form is longer
    context = ssl.create_default_context(cafile=nginx.authority)
    with httpx.Client(
        base_url=f"https://127.0.0.1:{nginx.port}/v1", verify=context,
        headers={"authorization": f"Bearer {simulated.key}"}, timeout=60,
    ) as client:  # fmt: skip
        asked = {"filename": "a", "purpose": "user_data", "bytes": length, "mime_type": "text/plain"}
        upload = client.post("/uploads", json=asked).json()["id"]
        made = client.post(f"/uploads/{upload}/parts", files={"data": bytes(length)})
        assert (made.status_code, made.json().get("object")) == (200, "upload.part")
        client.post(f"/uploads/{upload}/cancel")


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("proxy/nginx.conf", r"client_max_body_size (\d+)m;"),
        ("proxy/balancer.conf", r"client_max_body_size (\d+)m;"),
        ("proxy/Caddyfile", r"max_size (\d+)MiB"),
        ("helm/headgate/values.yaml", r"proxy-body-size: (\d+)m"),
    ],
)
def test_what_is_too_long_is_for_the_gateway_to_say(path: str, limit: str) -> None:
    (found,) = re.findall(limit, (ROOT / "deploy" / path).read_text("utf-8"))
    longest = max(FileSettings().file_mb << 20, Server().max_image_body_bytes)
    assert int(found) << 20 >= longest + (1 << 20)


@pytest.mark.nginx
def test_nginx_does_not_take_a_directive_that_it_does_not_know(tmp_path: Path, simulated: Gateway) -> None:
    wrong = NGINX.read_text("utf-8").replace("proxy_buffering off", "proxy_bufering off")
    with pytest.raises(AssertionError, match="proxy_bufering"):
        Nginx(tmp_path / "wrong", wrong, simulated.base)
