"""Secrets of secret managers, through their own clients, from fakes that speak their wire on loopback."""

from __future__ import annotations

import json
import ssl
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from headgate.config import ServeOptions, load
from headgate.settings.upstreams import ConfigError
from headgate.vaults import VaultError, fetch

TLS = Path(__file__).parents[1] / "transport/tls"
CANARY = "sk-canary-of-a-provider"


class Asked(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Fake:
    """An HTTP server that answers as a test says, and keeps what it was asked."""

    def __init__(self, server: ThreadingHTTPServer, scheme: str) -> None:
        self.asked: list[Asked] = []
        self.url = f"{scheme}://localhost:{server.server_address[1]}"


class Answer(NamedTuple):
    status: int
    body: dict[str, Any]
    headers: Mapping[str, str] = MappingProxyType({})


@contextmanager
def serving(*answers: Answer, tls: bool = False) -> Iterator[Fake]:
    """Answer in turn; the last answer again and again."""
    turn = iter(answers)
    current = [answers[0]]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            fake.asked.append(Asked(self.command, self.path, headers, self.rfile.read(length)))
            current[0] = next(turn, current[0])
            body = json.dumps(current[0].body).encode()
            self.send_response(current[0].status)
            for name, value in current[0].headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def __getattr__(self, name: str) -> Any:
            if name in {"do_GET", "do_POST"}:
                return self.answer
            raise AttributeError(name)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "local.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    fake = Fake(server, "https" if tls else "http")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# ── AWS Secrets Manager ─────────────────────────────────────────────────────────────────────────


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "example",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
    }.items():
        monkeypatch.setenv(name, value)


def aws_secret(text: str) -> Answer:
    return Answer(
        200,
        {
            "ARN": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:openai-a1b2c3",
            "CreatedDate": 1.523477145713e9,
            "Name": "openai",
            "SecretString": text,
            "VersionId": "EXAMPLE1-90ab-cdef-fedc-ba987SECRET1",
            "VersionStages": ["AWSCURRENT"],
        },
    )


@pytest.mark.usefixtures("aws")
def test_aws_gives_a_secret_and_a_field_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(aws_secret(CANARY), aws_secret(json.dumps({"key": CANARY, "other": 5}))) as fake:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", fake.url)
        assert fetch("aws-sm:openai") == CANARY
        assert fetch("aws-sm:openai#key") == CANARY
        for field in ("none", "other"):
            with pytest.raises(VaultError, match=f"no text in its field '{field}'") as caught:
                fetch(f"aws-sm:openai#{field}")
            assert CANARY not in str(caught.value)
    first = fake.asked[0]
    assert first.headers["x-amz-target"] == "secretsmanager.GetSecretValue"
    assert json.loads(first.body) == {"SecretId": "openai"}
    assert first.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/")


@pytest.mark.usefixtures("aws")
def test_what_aws_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = Answer(
        400, {"__type": "ResourceNotFoundException", "Message": "Secrets Manager can't find it."}
    )
    with serving(refusal) as fake:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", fake.url)
        with pytest.raises(VaultError, match="aws-sm:openai: AWS Secrets Manager says ResourceNotFound"):
            fetch("aws-sm:openai")
    with pytest.raises(VaultError, match="names no secret"):
        fetch("aws-sm:#x")


# ── Azure Key Vault ─────────────────────────────────────────────────────────────────────────────


class Token:
    """A credential that is at hand. Implements `azure.core.credentials.TokenCredential`."""

    def get_token(self, *scopes: str, **_: object) -> Any:
        from azure.core.credentials import AccessToken

        assert scopes == ("https://vault.azure.net/.default",)
        return AccessToken("token-of-azure", 2**31)


def test_azure_gives_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    from headgate.vaults.azure import read

    challenge = Answer(
        401,
        {"error": {"code": "Unauthorized", "message": "AKV10000: Request is missing a token."}},
        {
            "www-authenticate": 'Bearer authorization="https://login.windows.net/72f988bf-86f1", '
            'resource="https://vault.azure.net"'
        },
    )
    secret = Answer(
        200, {"value": CANARY, "id": "https://x.vault.azure.net/secrets/openai/43", "attributes": {}}
    )
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(TLS / "ca.pem"))
    with serving(challenge, secret, tls=True) as fake:
        found = read(f"{fake.url}/openai", Token(), verify_challenge_resource=False)
    assert found == CANARY
    assert [asked.path.partition("?")[0] for asked in fake.asked] == ["/secrets/openai/"] * 2
    assert "authorization" not in fake.asked[0].headers
    assert fake.asked[1].headers["authorization"] == "Bearer token-of-azure"


def test_what_azure_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from headgate.vaults.azure import read

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(TLS / "ca.pem"))
    refusal = Answer(404, {"error": {"code": "SecretNotFound", "message": "A secret was not found."}})
    with serving(refusal, tls=True) as fake, pytest.raises(VaultError, match="ResourceNotFoundError"):
        read(f"{fake.url}/openai", Token(), verify_challenge_resource=False)
    for reference in ("http://x/openai", "https://x", "https://x/a/b/c", "openai"):
        with pytest.raises(VaultError, match="is not azure-kv:https://VAULT"):
            fetch(f"azure-kv:{reference}")


# ── HashiCorp Vault ─────────────────────────────────────────────────────────────────────────────


def kept(**content: object) -> Answer:
    meta = {"created_time": "2018-03-22T02:24:06.945319214Z", "destroyed": False, "version": 2}
    return Answer(200, {"request_id": "r", "data": {"data": content, "metadata": meta}})


def test_vault_gives_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "token-of-vault")
    with serving(kept(key=CANARY, value="v")) as fake:
        monkeypatch.setenv("VAULT_ADDR", fake.url)
        assert fetch("vault:secret/teams/openai#key") == CANARY
        assert fetch("vault:secret/teams/openai") == "v"
        with pytest.raises(VaultError, match="no text in its field 'none'"):
            fetch("vault:secret/teams/openai#none")
    assert fake.asked[0].path == "/v1/secret/data/teams/openai"
    assert fake.asked[0].headers["x-vault-token"] == "token-of-vault"


@pytest.mark.parametrize(("status", "said"), [(403, "Forbidden"), (404, "InvalidPath"), (503, "VaultDown")])
def test_what_vault_refuses_is_said(monkeypatch: pytest.MonkeyPatch, status: int, said: str) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "token-of-vault")
    with serving(Answer(status, {"errors": ["permission denied"]})) as fake:
        monkeypatch.setenv("VAULT_ADDR", fake.url)
        with pytest.raises(VaultError, match=f"Vault says {said}"):
            fetch("vault:secret/openai#key")
    with pytest.raises(VaultError, match="cannot be reached"):  # it has gone
        fetch("vault:secret/openai#key")
    with pytest.raises(VaultError, match="is not vault:MOUNT/PATH"):
        fetch("vault:openai#key")


# ── all of them ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("reference", "module", "extra"),
    [
        ("aws-sm:openai", "boto3", "aws"),
        ("azure-kv:https://x/openai", "azure.core.exceptions", "azure"),
        ("vault:secret/openai#key", "hvac", "vault"),
    ],
)
def test_a_client_that_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, reference: str, module: str, extra: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("headgate.vaults.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    with pytest.raises(VaultError, match=rf"pip install 'headgate\[{extra}\]'"):
        fetch(reference)


def test_a_provider_gets_its_key_from_a_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "headgate.toml"
    settings.write_text('[[providers]]\nname = "openai"\napi_key = "vault:secret/openai#key"\n')
    options = ServeOptions(config=str(settings), env_file="")
    monkeypatch.setenv("VAULT_TOKEN", "token-of-vault")
    with serving(kept(key=CANARY)) as fake:
        monkeypatch.setenv("VAULT_ADDR", fake.url)
        assert load(options, {}).hosts[0].api_key == CANARY
    with pytest.raises(ConfigError, match="provider 'openai': vault:secret/openai#key: Vault cannot be"):
        load(options, {})
