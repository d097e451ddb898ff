"""Where requests to Bedrock go and what signs them; botocore's own signing is the referee."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from tests.providers.asking import chat
from tests.transport.asking import HandClock

from headgate.config import ServeOptions, load
from headgate.credentials import AccessKeys, Bearer, Signing, TokenSource
from headgate.errors import UpstreamDenied, UpstreamOverloaded
from headgate.providers.bedrock import located
from headgate.providers.bedrock.codec import codecs
from headgate.providers.registry import CODECS, REGIONS
from headgate.settings.upstreams import ConfigError
from headgate.values import Host, Model, Place, Prices, Target

CODEC = CODECS["bedrock"]["chat"]
MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("us-east-1", "https://bedrock-runtime.us-east-1.amazonaws.com"),
        ("us-gov-west-1", "https://bedrock-runtime.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_the_regions_address(location: str, url: str) -> None:
    template = "https://bedrock-runtime.{location}.amazonaws.com"
    assert located(template, Place(location=location)) == url
    assert located(url, Place()) == url
    assert REGIONS["bedrock"](url, "") == location
    for wrong in ("", "a/b", "us-east-1."):
        with pytest.raises(ValueError, match="location"):
            located(template, Place(location=wrong))


HEADERS = (("content-type", "application/json"), ("user-agent", "headgate"), ("x-headgate-hop", "h"))
AT = datetime(2026, 11, 26, 4, 30, 5, tzinfo=UTC)


def signed(keys: AccessKeys, name: str = MODEL, **facts: Any) -> Target:
    base = facts.pop("base_url", "https://bedrock-runtime.us-east-1.amazonaws.com")
    path = "/proxy" if base.endswith("/proxy") else ""
    host = Host(name="h", kind="bedrock", base_url=base, signing=Signing(keys), location="us-east-1")
    return Target(host=host, model=Model(name=name), prices=Prices(), headers=HEADERS, base_path=path)


@pytest.mark.parametrize("session", ["", "FwoGZXIvYXdzE=="])
@pytest.mark.parametrize(
    "base",
    [
        "https://bedrock-runtime.us-east-1.amazonaws.com",
        "http://127.0.0.1:8080/proxy",
    ],
)
@pytest.mark.parametrize(
    "name", [MODEL, "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.x-v1:0"]
)
def test_a_request_is_signed_as_botocore_signs_it(
    session: str, base: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HandClock()
    clock.now_s = int(AT.timestamp())
    to = signed(AccessKeys("AKIDEXAMPLE", "wJalr/+", session), name, base_url=base)
    request = codecs(clock)["chat"].encode(chat(True, messages=[{"role": "user", "content": "你好"}]), to)

    monkeypatch.setattr(auth, "get_current_datetime", lambda: AT)
    url = base.removesuffix("/proxy") + request.path
    theirs = AWSRequest("POST", url, {"content-type": "application/json"}, request.body)
    auth.SigV4Auth(Credentials("AKIDEXAMPLE", "wJalr/+", session or None), "bedrock", "us-east-1").add_auth(
        theirs
    )
    expected = {key.lower(): value for key, value in theirs.headers.items()}
    sent = dict(request.headers)
    assert sent.pop("user-agent") == "headgate"
    assert sent.pop("x-headgate-hop") == "h"
    assert sent == expected
    assert sent["x-amz-date"] == "20261126T043005Z"
    assert sent.get("x-amz-security-token", "") == session


def test_what_is_not_signed_yet_waits_or_goes_elsewhere() -> None:
    to = signed(AccessKeys("a", "b"))
    signing = to.host.signing
    assert signing is not None
    signing.renew(None)
    with pytest.raises(UpstreamOverloaded) as waiting:
        CODEC.encode(chat(), to)
    assert waiting.value.retry_after_s == 1.0
    signing.renew(None, "the role was deleted")
    with pytest.raises(UpstreamDenied):
        CODEC.encode(chat(), to)


def test_an_api_key_that_expires_is_a_token() -> None:
    """AWS's own generator of short-term API keys prints one: `token_command`."""
    bearer = Bearer()
    host = Host(
        name="h", kind="bedrock", base_url="http://h", tokens=TokenSource(command=("x",)), bearer=bearer
    )
    to = Target(host=host, model=Model(name=MODEL), prices=Prices(), headers=HEADERS)
    with pytest.raises(UpstreamOverloaded):
        CODEC.encode(chat(), to)
    bearer.renew("bedrock-api-key-1")
    assert CODEC.encode(chat(), to).headers == (*HEADERS, ("authorization", "Bearer bedrock-api-key-1"))


# ── what is configured ──────────────────────────────────────────────────────────────────────────

KEYS = {"AWS_ACCESS_KEY_ID": "AKID1", "AWS_SECRET_ACCESS_KEY": "s1"}
REGION = {"AWS_REGION": "eu-west-1"}
ROW = '[[providers]]\nname = "bedrock"\n'
OWN = 'access_key_id = "AKID2"\nsecret_access_key = "env:S2"\n'


def hosts(tmp_path: Any, toml: str = "", **env: str) -> tuple[Host, ...]:
    file = tmp_path / "headgate.toml"
    file.write_text(toml)
    return load(ServeOptions(config=str(file), env_file=str(tmp_path / "none")), env).hosts


@pytest.mark.parametrize(
    ("toml", "env", "key", "keys", "profile", "location"),
    [
        ("", {"AWS_BEARER_TOKEN_BEDROCK": "ABSK1", **REGION}, "ABSK1", None, None, "eu-west-1"),
        (ROW, {"AWS_BEARER_TOKEN_BEDROCK": "ABSK1", **KEYS, **REGION}, "ABSK1", None, None, "eu-west-1"),
        (ROW, KEYS | REGION, "", AccessKeys("AKID1", "s1"), "", "eu-west-1"),
        (ROW, KEYS | REGION | {"AWS_SESSION_TOKEN": "t", "AWS_PROFILE": "p"}, "", AccessKeys("AKID1", "s1", "t"), "", "eu-west-1"),
        (ROW, REGION | {"AWS_PROFILE": "p"}, "", None, "p", "eu-west-1"),
        (ROW, {"AWS_DEFAULT_REGION": "us-west-2"}, "", None, "", "us-west-2"),
        (ROW + 'profile = "q"\nlocation = "us-east-1"\n', KEYS | REGION, "", None, "q", "us-east-1"),
        (ROW + OWN, KEYS | REGION | {"S2": "s2", "AWS_SESSION_TOKEN": "t"}, "", AccessKeys("AKID2", "s2"), "", "eu-west-1"),
    ],
)  # fmt: skip
def test_what_a_host_is_asked_with(
    toml: str, env: dict, key: str, keys: Any, profile: str | None, location: str, tmp_path: Any
) -> None:
    (host,) = hosts(tmp_path, toml, **env)
    assert (host.kind, host.api_key, host.location) == ("bedrock", key, location)
    assert host.base_url == f"https://bedrock-runtime.{location}.amazonaws.com"
    assert not host.keyless
    signing = host.signing
    assert (signing and signing.keys, signing and signing.profile) == (keys, profile)
    if signing is not None:
        assert signing.given is (keys is not None)


def test_keys_of_another_cloud_service_alone_switch_nothing_on(tmp_path: Any) -> None:
    assert hosts(tmp_path, "", **KEYS, **REGION) == ()


def test_a_second_region_under_a_name_of_ones_own(tmp_path: Any) -> None:
    url = "https://bedrock-runtime.ap-south-1.amazonaws.com"
    (host,) = hosts(
        tmp_path, f'[[providers]]\nname = "mumbai"\nkind = "bedrock"\nbase_url = "{url}"\n', **KEYS
    )
    assert (host.base_url, host.location) == (url, "ap-south-1")
    assert host.signing is not None
    assert host.signing.keys == AccessKeys("AKID1", "s1")
    local = '[[providers]]\nname = "x"\nkind = "bedrock"\nbase_url = "http://127.0.0.1:9"\nlocal = true\n'
    assert hosts(tmp_path, local)[0].signing is None


@pytest.mark.parametrize(
    ("toml", "env", "said"),
    [
        (ROW, KEYS, "location is missing"),
        ("", {"AWS_BEARER_TOKEN_BEDROCK": "ABSK1"}, "location is missing"),
        (ROW + 'location = "a b"\n', {}, "no AWS region"),
        (ROW + 'access_key_id = "A"\n', REGION, "both access_key_id and secret_access_key"),
        (ROW + 'access_key_id = "A"\nsecret_access_key = "stored:x"\n', REGION, "only api_key can be stored"),
        (ROW + 'api_key = "A"\nprofile = "p"\n', REGION, "one of api_key, access_key_id and profile"),
        ('[[providers]]\nname = "deepseek"\nprofile = "p"\n', {}, "not for kind 'openai'"),
        ('[[providers]]\nname = "x"\nkind = "bedrock"\nbase_url = "http://127.0.0.1:9"\n', KEYS, "location is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(toml: str, env: dict, said: str, tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=said):
        hosts(tmp_path, toml, **env)


def test_without_botocore_the_extra_is_named(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.settings.upstreams.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'headgate\[bedrock\]', or give an API key"):
        hosts(tmp_path, ROW, **KEYS, **REGION)
    (host,) = hosts(tmp_path, ROW, AWS_BEARER_TOKEN_BEDROCK="ABSK1", **REGION)
    assert host.signing is None
