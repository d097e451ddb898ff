"""Keys that sign requests, found by botocore in files and programs that the tests wrote, and looked for again."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from tests.answers import http_answer
from tests.transport.asking import until
from tests.upstream import ScriptedUpstream

from headgate.credentials import AccessKeys, Signing
from headgate.process.accesskeys import AccessKeyKeeper
from headgate.values import Host

pytestmark = pytest.mark.anyio


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where AWS's files are, and nothing else that AWS's rules could find."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


class Kept:
    """A keeper at work."""

    def __init__(self, profile: str = "") -> None:
        self.signing = Signing(profile=profile)
        self.said: list[str] = []
        host = Host(name="b", base_url="http://h", signing=self.signing, location="us-east-1")
        self._keeper = AccessKeyKeeper(host, self.said.append, look_every_s=0.01)

    async def __aenter__(self) -> Kept:
        self._task = asyncio.create_task(self._keeper.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def profile(files: Path, key: str, name: str = "default") -> None:
    (files / "credentials").write_text(f"[{name}]\naws_access_key_id = {key}\naws_secret_access_key = s\n")


async def test_a_profile_and_its_new_keys(files: Path) -> None:
    profile(files, "K1", "work")
    async with Kept("work") as kept:
        await until(lambda: kept.signing.keys == AccessKeys("K1", "s"))
        profile(files, "K2", "work")
        await until(lambda: kept.signing.keys == AccessKeys("K2", "s"))
        assert (kept.said, kept.signing.trouble) == ([], "")


async def test_the_environment_has_no_profile(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "K3")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    async with Kept() as kept:
        await until(lambda: kept.signing.keys == AccessKeys("K3", "s", "t"))


async def test_keys_that_expire_are_renewed_by_the_rule_that_found_them(files: Path) -> None:
    """A program whose first keys are about to expire is asked again; its next ones are kept."""
    soon, late = datetime.now(UTC) + timedelta(minutes=12), datetime.now(UTC) + timedelta(hours=2)
    answers = [
        {
            "Version": 1,
            "AccessKeyId": key,
            "SecretAccessKey": "s",
            "SessionToken": "t",
            "Expiration": at.isoformat(),
        }
        for key, at in (("K1", soon), ("K2", late), ("K3", late))
    ]
    (files / "answers.json").write_text(json.dumps(answers))
    script = files / "print.py"
    script.write_text(
        "import json\npath = __file__.replace('print.py', 'answers.json')\n"
        "first, *others = json.load(open(path))\njson.dump(others, open(path, 'w'))\nprint(json.dumps(first))\n"
    )
    (files / "config").write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")
    async with Kept() as kept:
        await until(lambda: kept.signing.keys == AccessKeys("K2", "s", "t"))
        await asyncio.sleep(0.1)
        assert kept.signing.keys == AccessKeys("K2", "s", "t")
    assert len(json.loads((files / "answers.json").read_text())) == 1


def lent(key: str, minutes: int) -> bytes:
    """What the service that lends roles answers."""
    until = (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    keys = (
        f"<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>r</SecretAccessKey><SessionToken>t</SessionToken>"
    )
    result = f"<Credentials>{keys}<Expiration>{until}</Expiration></Credentials>"
    body = f"<AssumeRoleResponse><AssumeRoleResult>{result}</AssumeRoleResult></AssumeRoleResponse>"
    return http_answer(body.encode(), headers=[("content-type", "text/xml")])


async def test_a_role_is_lent_and_lent_again(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile names a role; the host's region says whom to ask for it."""
    profile(files, "K1", "base")
    role = "arn:aws:iam::123456789012:role/models"
    (files / "config").write_text(f"[profile work]\nrole_arn = {role}\nsource_profile = base\n")
    with ScriptedUpstream(lent("R1", 12), lent("R2", 120)) as upstream:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", upstream.url)
        async with Kept("work") as kept:
            await until(lambda: kept.signing.keys == AccessKeys("R2", "r", "t"))
            await asyncio.sleep(0.05)
        assert len(upstream.requests) == 2
        asked = upstream.requests[0]
    form = parse_qs(asked.body.decode())
    assert (form["Action"], form["RoleArn"]) == (["AssumeRole"], [role])
    assert "K1/" in str(asked.get("authorization"))
    assert "/us-east-1/sts/" in str(asked.get("authorization"))
    assert kept.said == []


async def test_what_cannot_be_had_is_reported_and_old_keys_stay(files: Path) -> None:
    async with Kept("work") as kept:
        await until(lambda: kept.signing.trouble)
        assert kept.signing.keys is None
        assert "'b'" in kept.said[0]
        assert "work" in kept.said[0]
        profile(files, "K1", "work")
        await until(lambda: kept.signing.keys)
        assert kept.signing.trouble == ""
        (files / "credentials").unlink()
        await until(lambda: kept.signing.trouble)
        assert kept.signing.keys == AccessKeys("K1", "s")


async def test_nothing_anywhere(files: Path) -> None:
    async with Kept() as kept:
        await until(lambda: kept.signing.trouble)
        assert "none in the environment" in kept.said[0]
