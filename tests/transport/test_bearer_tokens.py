"""Tokens of hosts: asked for over a real socket or from a command, renewed in time, never waited for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from tests.transport.asking import HandClock, http, until
from tests.upstream import RESET, ScriptedUpstream, json_answer

from headgate.config import ServeOptions, load
from headgate.credentials import Bearer, TokenSource
from headgate.process.tokens import TokenKeeper
from headgate.providers.grants import read_token
from headgate.settings.upstreams import ConfigError
from headgate.values import Host

pytestmark = pytest.mark.anyio
KEY = rsa.generate_private_key(65537, 2048)
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def pem(key: Any = KEY) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def grant(token: str, life_s: int = 3600) -> bytes:
    return json_answer({"access_token": token, "expires_in": life_s, "token_type": "Bearer"})


def part(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Kept:
    """A keeper at work on a clock that is moved by hand."""

    def __init__(self, source: TokenSource) -> None:
        self.clock = HandClock()
        self.bearer = Bearer()
        self.said: list[str] = []
        self.host = Host(name="v", base_url="http://h", tokens=source, bearer=self.bearer)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Kept]:
        async with http() as transport:
            keeper = TokenKeeper(self.host, transport, self.clock, self.said.append, look_every_s=0.005)
            task = asyncio.create_task(keeper.run())
            try:
                yield self
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def account(upstream: ScriptedUpstream, **more: str) -> TokenSource:
    url = upstream.base_url.removesuffix("/v1") + "/token"
    given = {
        "url": url,
        "audience": "https://oauth2.googleapis.com/token",
        "scope": SCOPE,
        "key_id": "k1",
    } | more
    return TokenSource(account="bot@p.iam", private_key=pem(), **given)


async def test_a_service_account_signs_for_its_token() -> None:
    async with ScriptedUpstream(grant("t1")) as upstream:
        async with Kept(account(upstream)).running() as kept:
            await until(lambda: kept.bearer.token)
            assert kept.bearer.headers((("a", "b"),)) == (("a", "b"), ("authorization", "Bearer t1"))
        (asked,) = upstream.requests
    assert (asked.method, asked.path) == ("POST", "/token")
    assert asked.get("content-type") == "application/x-www-form-urlencoded"
    form = parse_qs(asked.body.decode(), strict_parsing=True)
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    head, claims, signature = form["assertion"][0].split(".")
    KEY.public_key().verify(part(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), SHA256())
    assert json.loads(part(head)) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    assert json.loads(part(claims)) == {
        "iss": "bot@p.iam",
        "scope": SCOPE,
        "aud": "https://oauth2.googleapis.com/token",
        "iat": 1000,
        "exp": 4600,
    }


async def test_it_is_renewed_before_it_expires() -> None:
    async with (
        ScriptedUpstream(grant("t1"), grant("t2", 100), grant("t3")) as upstream,
        Kept(account(upstream)).running() as kept,
    ):
        await until(lambda: kept.bearer.token == "t1")
        kept.clock.now_s += 3299
        await asyncio.sleep(0.03)
        assert kept.bearer.token == "t1"
        kept.clock.now_s += 1
        await until(lambda: kept.bearer.token == "t2")
        kept.clock.now_s += 75
        await until(lambda: kept.bearer.token == "t3")
        assert kept.said == []


async def test_one_that_cannot_be_renewed_serves_until_it_expires() -> None:
    refusal = json_answer({"error": "invalid_grant", "error_description": "account deleted"}, 400)
    async with (
        ScriptedUpstream(grant("t1"), refusal, [RESET], json_answer({}), grant("t2")) as upstream,
        Kept(account(upstream)).running() as kept,
    ):
        await until(lambda: kept.bearer.token)
        kept.clock.now_s += 3301
        await until(lambda: len(kept.said) == 1)
        assert "account deleted" in kept.said[0]
        assert kept.bearer.token == "t1"
        kept.clock.now_s += 300  # past its end
        await until(lambda: len(kept.said) == 2)
        assert (kept.bearer.token, bool(kept.bearer.trouble)) == ("", True)
        kept.clock.now_s += 3
        await until(lambda: len(kept.said) == 3)
        assert "no token" in kept.said[2]
        kept.clock.now_s += 10
        await until(lambda: kept.bearer.token == "t2")
        assert kept.bearer.trouble == ""


async def test_a_provider_that_cannot_be_reached_is_asked_again() -> None:
    async with ScriptedUpstream() as upstream:
        source = account(upstream)
    async with Kept(source).running() as kept:
        await until(lambda: kept.said)
        assert kept.bearer.token == ""
        assert "127.0.0.1" in kept.bearer.trouble


def printing(code: str) -> TokenSource:
    return TokenSource(command=(sys.executable, "-c", code))


async def test_a_command_prints_it() -> None:
    for code in ("print('t1')", 'print(\'{"access_token": "t1", "expires_in": 10}\')'):
        async with Kept(printing(code)).running() as kept:
            await until(lambda kept=kept: kept.bearer.token == "t1")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit('log in first')", "log in first"),
        ("print('two words')", "no token"),
        ("print('{')", "neither JSON nor a token"),
        ("", "no token"),
    ],
)
async def test_a_command_that_fails_says_so(code: str, said: str) -> None:
    async with Kept(printing(code)).running() as kept:
        await until(lambda: kept.said)
        assert said in kept.said[0]
        assert said in kept.bearer.trouble


async def test_a_command_that_is_not_there() -> None:
    async with Kept(TokenSource(command=("/nowhere/token",))).running() as kept:
        await until(lambda: kept.said)
        assert kept.bearer.trouble


@pytest.mark.parametrize(
    "answer", [b"", b"a b", b"\xff\xfe", b"{}", b'{"access_token": 3}', b'{"access_token": ""}']
)
def test_what_is_no_token(answer: bytes) -> None:
    with pytest.raises(ValueError, match="token"):
        read_token(answer)


# ── the settings ────────────────────────────────────────────────────────────────────────────────


def hosts(folder: Path, toml: str) -> tuple[Host, ...]:
    (folder / "h.toml").write_text('[[providers]]\nname = "vertex"\n' + toml)
    return load(ServeOptions(config=str(folder / "h.toml"), env_file=""), {}).hosts


def written(folder: Path, **given: Any) -> Path:
    account = {
        "type": "service_account",
        "client_email": "bot@p.iam",
        "private_key": pem(),
        "private_key_id": "k1",
    }
    path = folder / "account.json"
    path.write_text(json.dumps(account | {"token_uri": "https://oauth2.googleapis.com/token"} | given))
    return path


def test_a_service_account_is_read_from_its_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    (host,) = hosts(tmp_path, f'project = "p"\nlocation = "europe-west4"\nservice_account = "{path}"')
    assert (
        host.base_url == "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4"
    )
    assert host.bearer is not None
    source = host.tokens
    assert source is not None
    assert (source.account, source.key_id, source.scope) == ("bot@p.iam", "k1", SCOPE)
    assert source.url == source.audience == "https://oauth2.googleapis.com/token"
    own = 'token_url = "http://127.0.0.1:9/t"\ntoken_scope = "s"'
    (host,) = hosts(tmp_path, f'project = "p"\nservice_account = "{path}"\n{own}')
    assert host.tokens is not None
    assert (host.tokens.url, host.tokens.audience) == ("http://127.0.0.1:9/t", source.audience)
    assert host.tokens.scope == "s"
    (host,) = hosts(tmp_path, 'project = "p"\ntoken_command = ["gcloud", "auth", "print-access-token"]')
    assert host.tokens == TokenSource(command=("gcloud", "auth", "print-access-token"))
    assert not host.keyless


@pytest.mark.parametrize(
    ("toml", "given", "said"),
    [
        ("", {}, "project is missing"),
        ('project = "p"\nservice_account = "/nowhere/a.json"', {}, "cannot read"),
        ('project = "p"\nservice_account = "{}"', {"private_key": "x"}, "private key cannot be read"),
        (
            'project = "p"\nservice_account = "{}"',
            {"private_key": pem(ec.generate_private_key(ec.SECP256R1()))},
            "RSA",
        ),
        ('project = "p"\nservice_account = "{}"', {"client_email": 3}, "client_email"),
        ('project = "p"\nservice_account = "{}"', {"token_uri": "ftp://x"}, "http"),
        ('project = "p"\nservice_account = "{}"\napi_key = "k"', {}, "give one of"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, toml: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        hosts(tmp_path, toml.format(written(tmp_path, **given)))


def test_a_key_needs_no_token(tmp_path: Path) -> None:
    (host,) = hosts(tmp_path, 'project = "p"\napi_key = "k"')
    assert (host.tokens, host.bearer, host.api_key) == (None, None, "k")
