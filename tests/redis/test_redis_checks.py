"""`headgate doctor` and `config check` on Redis, and settings that cannot be."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.redis.server import RedisServer, free_port
from tests.surfaces.conftest import HEADGATE, plain_environment
from tests.surfaces.forks import run as run_forked

from headgate.program import without_password
from headgate.settings.storage import redis_url
from headgate.settings.upstreams import ConfigError


def run(folder: Path, url: str, *args: str) -> subprocess.CompletedProcess[str]:
    (folder / "headgate.toml").write_text(f'[storage]\nredis = "{url}"\n')
    command = [HEADGATE, *args, "--config", "headgate.toml"]
    return run_forked(command, folder, plain_environment(REDIS_URL=f"{url}"), 60)


def redis_of(folder: Path, url: str) -> dict[str, str]:
    out = run(folder, url, "doctor", "--json", "--port", str(free_port())).stdout
    (found,) = [each for each in json.loads(out)["findings"] if each["about"] == "redis"]
    return found


@pytest.mark.redis
def test_doctor_says_how_redis_is(own_redis: RedisServer, tmp_path: Path) -> None:
    found = redis_of(tmp_path, own_redis.url)
    assert found["state"] == "ok"
    assert "needs to be persistent" in found["says"]
    own_redis.ask("CONFIG", "SET", "maxmemory", "100mb")
    own_redis.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    found = redis_of(tmp_path, own_redis.url)
    assert found["state"] == "warning"
    assert "allkeys-lru" in found["advice"]
    own_redis.ask("REPLICAOF", "127.0.0.1", "1")
    assert redis_of(tmp_path, own_redis.url)["state"] == "fault"


def test_doctor_says_that_redis_cannot_be_used(tmp_path: Path) -> None:
    found = redis_of(tmp_path, f"redis://me:geheim@127.0.0.1:{free_port()}")
    assert found["state"] == "fault"
    assert "geheim" not in json.dumps(found)
    assert "its share of every limit" in found["advice"]


def test_a_check_of_the_settings_shows_no_password(tmp_path: Path) -> None:
    for args in (("config", "check"), ("config", "check", "--json")):
        checked = run(tmp_path, "redis://me:geheim@db.example:6380/2", *args)
        assert checked.returncode == 0, checked.stderr
        assert "redis://me@db.example:6380/2" in checked.stdout
        assert "geheim" not in checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://db:6379", "does not begin with redis://"),
        ("redis://", "names no server"),
        ("redis://db:70000", "names no server"),
        ("redis://:pw@db:6379/users", "the number of a database"),
        ("unix://", "names no server"),
        ("env:NO_SUCH_URL", "NO_SUCH_URL"),
    ],
)
def test_a_url_that_cannot_be_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        redis_url(url, "headgate", {}, {})
    assert "pw" not in str(refused.value)


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.settings.storage.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'headgate\[redis\]'"):
        redis_url("redis://db", "headgate", {}, {})
    assert not redis_url("", "headgate", {}, {})


@pytest.mark.parametrize("prefix", ["", "a b", "x" * 65, "{a}"])
def test_a_prefix_that_cannot_be_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match="redis_prefix"):
        redis_url("", prefix, {}, {})


def test_a_url_may_stand_elsewhere(tmp_path: Path) -> None:
    assert redis_url("env:R", "headgate", {"R": "rediss://db"}, {}) == "rediss://db"
    (tmp_path / "url").write_text("unix:///run/redis.sock\n")
    assert redis_url(f"file:{tmp_path}/url", "headgate", {}, {}) == "unix:///run/redis.sock"
    assert without_password("redis://:pw@db:1/0?ssl_password=pw") == "redis://db:1/0"
