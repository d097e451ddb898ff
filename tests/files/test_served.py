"""Files through a running worker: whose they are, what their names may not do, what trouble leaves behind."""

from __future__ import annotations

import asyncio
import json
import re
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from tests.faults.test_revoked import desk, known
from tests.faults.worker import Reply, Worker, parse, worker
from tests.files.names import NAMES, TOO_LONG
from tests.upstream import ScriptedUpstream

from headgate.ops.actors import LOCAL
from headgate.ops.keyrules import KeyOrder
from headgate.ops.keys import create_key, revoke_key
from headgate.ops.projects import ProjectOrder, create_project

pytestmark = pytest.mark.anyio
JSON, FORM = "application/json", "multipart/form-data; boundary=bOuNd"
ABSENT = "0" * 24


@asynccontextmanager
async def archive(folder: Path, settings: str = "") -> AsyncIterator[Worker]:
    async with ScriptedUpstream() as upstream, worker(folder, upstream.base_url, more=settings) as gateway:
        yield gateway


def form(data: bytes, filename: bytes = b"a.txt", name: bytes = b"file", **fields: str) -> bytes:
    """A form with a file, as browsers write it."""
    safe = filename.replace(b'"', b"%22").replace(b"\r", b"%0D").replace(b"\n", b"%0A")
    parts = [
        b'--bOuNd\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (key.encode(), value.encode())
        for key, value in fields.items()
    ]
    parts.append(
        b'--bOuNd\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%b\r\n" % (name, safe, data)
    )
    return b"".join((*parts, b"--bOuNd--\r\n"))


def head(
    gateway: Worker, method: str, path: str, length: int, kind: str = JSON, key: str | None = None
) -> bytes:
    token = gateway.key if key is None else key
    said = f"Authorization: Bearer {token}\r\n" if token else ""
    return (
        f"{method} /v1/{path} HTTP/1.1\r\nHost: g\r\n{said}Content-Type: {kind}\r\nConnection: close\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


async def ask(
    gateway: Worker, method: str, path: str, body: bytes = b"", kind: str = JSON, key: str | None = None
) -> Reply:
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(*gateway.address)
        writer.write(head(gateway, method, path, len(body), kind, key) + body)
        raw = await reader.read()
        writer.close()
    return parse(raw)


async def told(gateway: Worker, *asked: Any) -> Any:
    reply = await ask(gateway, *asked)
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


async def bring(
    gateway: Worker, data: bytes = b"x", filename: bytes = b"a.txt", key: str | None = None
) -> Any:
    return await told(gateway, "POST", "files", form(data, filename, purpose="user_data"), FORM, key)


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# ── whose they are ───────────────────────────────────────────────────────────────────────────────


async def make_keys(folder: Path, gateway: Worker) -> dict[str, str]:
    with desk(folder) as on:
        other = create_project(LOCAL, on, ProjectOrder(name="other"))
        revoked = create_key(LOCAL, on, KeyOrder(name="revoked"))
        made = {
            "owner": gateway.key,
            "colleague": create_key(LOCAL, on, KeyOrder(name="colleague")).text,
            "other project": create_key(LOCAL, on, KeyOrder(name="b", project=other.id)).text,
            "test": create_key(LOCAL, on, KeyOrder(name="t", kind="test")).text,
            "no files": create_key(LOCAL, on, KeyOrder(name="c", endpoints=("chat",))).text,
            "files": create_key(LOCAL, on, KeyOrder(name="f", endpoints=("files",), models=("gpt-4o",))).text,
            "admin": create_key(LOCAL, on, KeyOrder(name="a", kind="admin")).text,
            "nobody": "",
        }
        revoke_key(LOCAL, on, revoked.record.id)
        last = create_key(LOCAL, on, KeyOrder(name="last")).text
    await known(gateway, last)
    return {**made, "revoked": revoked.text}


EXPECTED = {
    "owner": 200, "colleague": 200, "files": 200, "other project": 404, "test": 404, "no files": 403,
    "admin": 403, "nobody": 401, "revoked": 401,
}  # fmt: skip


ORDER = b'{"bytes":1,"filename":"a","mime_type":"text/plain","purpose":"vision"}'
ALL = (
    ("GET", "files", b"", JSON),
    ("POST", "files", form(b"x", purpose="vision"), FORM),
    ("POST", "uploads", ORDER, JSON),
)


async def routes_to_one(gateway: Worker) -> list[tuple[str, str, bytes, str]]:
    """Every route to an object, each to one that is there and the owner's."""
    file = (await bring(gateway))["id"]
    uploads = [(await told(gateway, "POST", "uploads", ORDER))["id"] for _ in range(3)]
    empty = b'{"bytes":0,"filename":"a","mime_type":"","purpose":"vision"}'
    whole = (await told(gateway, "POST", "uploads", empty))["id"]
    return [
        ("GET", f"files/{file}", b"", JSON),
        ("GET", f"files/{file}/content", b"", JSON),
        ("HEAD", f"files/{file}/content", b"", JSON),
        ("GET", f"files?after={file}", b"", JSON),
        ("POST", f"uploads/{uploads[0]}/parts", form(b"x", name=b"data"), FORM),
        ("POST", f"uploads/{uploads[1]}/parts", form(b"x" * 900_000, name=b"data"), FORM),
        ("POST", f"uploads/{uploads[2]}/cancel", b"", JSON),
        ("POST", f"uploads/{whole}/complete", b'{"part_ids":[]}', JSON),
        ("DELETE", f"files/{file}", b"", JSON),
    ]


def bare(body: bytes) -> bytes:
    """An answer without ids."""
    return re.sub(rb"[0-9a-f]{24}", b"", body)


async def as_absent(gateway: Worker, key: str, routes: list[tuple[str, str, bytes, str]]) -> None:
    """See that what is somebody else's is refused as what never was."""
    for method, path, body, kind in routes:
        theirs = await ask(gateway, method, path, body, kind, key)
        absent = re.sub(r"(file-|upload_)[0-9a-f]+", rf"\g<1>{ABSENT}", path)
        nobodys = await ask(gateway, method, absent, body, kind, key)
        assert theirs.status == nobodys.status == 404, (method, path)
        assert bare(theirs.body) == bare(nobodys.body)
    assert json.loads((await ask(gateway, "GET", "files", key=key)).body)["data"] == []


@pytest.mark.parametrize("who", EXPECTED)
async def test_every_route_on_own_and_foreign_objects(tmp_path: Path, who: str) -> None:
    async with archive(tmp_path) as gateway:
        key, expected = (await make_keys(tmp_path, gateway))[who], EXPECTED[who]
        routes = await routes_to_one(gateway)
        if expected == 404:
            await as_absent(gateway, key, routes)
        for method, path, body, kind in routes:
            reply = await ask(gateway, method, path, body, kind, key)
            assert reply.status == expected, (method, path, reply.body)
        for method, path, body, kind in ALL:
            reply = await ask(gateway, method, path, body, kind, key)
            assert reply.status == (200 if expected == 404 else expected), (method, path)
        if expected != 200:  # and nothing has happened to them
            for method, path, body, kind in routes:
                assert (await ask(gateway, method, path, body, kind)).status == 200, (method, path)


async def test_a_part_of_anothers_upload_makes_no_file(tmp_path: Path) -> None:
    async with archive(tmp_path) as gateway:
        keys = await make_keys(tmp_path, gateway)
        mine = (await told(gateway, "POST", "uploads", ORDER))["id"]
        path = f"uploads/{mine}/parts"
        part = (await told(gateway, "POST", path, form(b"x", name=b"data"), FORM))["id"]
        theirs = keys["other project"]
        upload = (await told(gateway, "POST", "uploads", ORDER, JSON, theirs))["id"]
        body = json.dumps({"part_ids": [part]}).encode()
        stolen = await ask(gateway, "POST", f"uploads/{upload}/complete", body, JSON, theirs)
        assert (stolen.status, b"has no part" in stolen.body) == (400, True)
        assert (await told(gateway, "POST", f"uploads/{mine}/complete", body))["status"] == "completed"


# ── names ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_name_is_only_data(tmp_path: Path) -> None:
    async with archive(tmp_path) as gateway:
        await bring(gateway)
        before = {path for path in tree(tmp_path) if "/files/" not in path}
        for name in NAMES:
            sent = name.encode()
            made = await bring(gateway, sent, sent)
            assert made["filename"], ascii(name)
            assert not re.search(
                r"[/\\\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\u061c]",
                made["filename"],
            )
            assert made["filename"].strip(". "), ascii(name)
            again = await told(gateway, "GET", f"files/{made['id']}")
            assert again == made
            reply = await ask(gateway, "GET", f"files/{made['id']}/content")
            assert (reply.status, reply.body) == (200, sent)
            said = reply.headers["content-disposition"]
            assert re.fullmatch(
                r"""attachment; filename="[^"\\/%]*"; filename\*=UTF-8''[\w.~%-]+""", said, re.ASCII
            )
            assert reply.headers["x-content-type-options"] == "nosniff"
        for name in TOO_LONG:
            reply = await ask(gateway, "POST", "files", form(b"x", name.encode(), purpose="vision"), FORM)
            assert (reply.status, json.loads(reply.body)["error"]["param"]) == (400, "file")
        await nothing_left(tmp_path, len(NAMES) + 1)
        after = tree(tmp_path)
        assert {path for path in after if "/files/" not in path} == before
        blobs = {path for path in after if "/files/" in path and (tmp_path / path).is_file()}
        assert all(re.fullmatch(r"data/files/([0-9a-f]{2})/\1[0-9a-f]{30}", path) for path in blobs)
        assert len(blobs) == len(NAMES) + 1


LONG = "0000000001" + "9" * 5_000


@pytest.mark.parametrize("number", ["%C2%B2", "%D9%A1", "--5", "5-", "", "1.0", LONG, "-" + LONG])
async def test_a_number_that_is_none_is_a_callers_mistake(tmp_path: Path, number: str) -> None:
    async with archive(tmp_path) as gateway:
        for path in ("files?limit=", "batches?limit=", "batches/batch_x/results?after=", "videos?limit="):
            reply = await ask(gateway, "GET", f"{path}{number}x" if not number else f"{path}{number}")
            assert reply.status == 400, (path, reply.body)
            assert json.loads(reply.body)["error"]["param"] in {"limit", "after"}
        after = {"expires_after[anchor]": "created_at", "expires_after[seconds]": unquote(number)}
        reply = await ask(gateway, "POST", "files", form(b"x", purpose="user_data", **after), FORM)
        assert (reply.status, json.loads(reply.body)["error"]["param"]) == (400, "expires_after.seconds")


@pytest.mark.parametrize(
    "member", [b'"purpose":"\\ud800"', b'"\\ud800":1', b'"mime_type":"\\ud800"', b'"bytes":1e999']
)
async def test_an_upload_of_what_is_no_text_is_refused(tmp_path: Path, member: bytes) -> None:
    async with archive(tmp_path) as gateway:
        reply = await ask(gateway, "POST", "uploads", ORDER[:-1] + b"," + member + b"}")
        assert (reply.status, b"could not parse the JSON" in reply.body) == (400, True)


async def test_an_upload_counts_its_bytes_in_whole_numbers(tmp_path: Path) -> None:
    async with archive(tmp_path) as gateway:
        reply = await ask(gateway, "POST", "uploads", ORDER.replace(b":1,", b":1.0,"))
        assert b'"bytes":1,' in reply.body


async def test_an_id_leads_nowhere_else(tmp_path: Path) -> None:
    async with archive(tmp_path) as gateway:
        await bring(gateway)
        for name in (
            "..",
            ".",
            "%2e%2e",
            "../headgate.sqlite",
            "..%2fpepper",
            "file-x%00",
            "'%20OR%201=1--",
            "a" * 999,
        ):
            for tail in ("", "/content"):
                reply = await ask(gateway, "GET", f"files/{name}{tail}")
                assert reply.status == 404, name
                assert str(tmp_path).encode() not in reply.body


# ── trouble ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk() -> Iterator[int]:
    """Let no file of this process grow beyond 40 MiB: the system then refuses as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40 << 20, before[1]))
    yield 48 << 20
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_is_said_and_keeps_nothing(tmp_path: Path, small_disk: int) -> None:
    async with archive(tmp_path) as gateway:
        body = form(b"x" * small_disk, purpose="user_data")
        reply = await ask(gateway, "POST", "files", body, FORM)
        error = json.loads(reply.body)["error"]
        assert (reply.status, error["code"]) == (507, "insufficient_storage")
        assert "no room left" in error["message"]
        assert str(tmp_path) not in error["message"]
        assert reply.headers["x-should-retry"] == "false"
        await nothing_left(tmp_path)
        assert (await bring(gateway, b"small"))["bytes"] == 5


async def nothing_left(folder: Path, count: int = 0) -> None:
    async with asyncio.timeout(20):
        while len([path for path in (folder / "data/files").rglob("*") if path.is_file()]) != count:
            await asyncio.sleep(0.05)


async def test_whoever_hangs_up_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    async with archive(tmp_path) as gateway:
        kept = await bring(gateway)
        body = form(b"x" * 3_000_000, purpose="user_data")
        for sent in (400_000, 2_000_000, len(body) - 1):
            _, writer = await asyncio.open_connection(*gateway.address)
            writer.write(head(gateway, "POST", "files", len(body), FORM) + body[:sent])
            await writer.drain()
            await asyncio.sleep(0.2)
            writer.close()
            await nothing_left(tmp_path, 1)
        assert [file["id"] for file in (await told(gateway, "GET", "files"))["data"]] == [kept["id"]]


async def test_a_form_that_says_something_wrong_behind_its_file_leaves_nothing(tmp_path: Path) -> None:
    async with archive(tmp_path, "\n[files]\nfile_mb = 2\n") as gateway:
        data = b"x" * 1_000_000
        whole = form(data, purpose="user_data")
        wrong = (
            whole[:-11]
            + b'--bOuNd\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nnone\r\n--bOuNd--\r\n'
        )
        for body, status in (
            (wrong, 400),
            (whole[:-4], 400),
            (form(b"x" * 2_200_000, purpose="vision"), 413),
        ):
            reply = await ask(gateway, "POST", "files", body, FORM)
            assert reply.status == status, reply.body
        await nothing_left(tmp_path)
        assert (await told(gateway, "GET", "files"))["data"] == []


async def test_a_quota_refuses_what_does_not_fit(tmp_path: Path) -> None:
    async with archive(tmp_path, "\n[files]\nproject_gb = 0.001\n") as gateway:
        await bring(gateway, b"x" * 700_000)
        reply = await ask(gateway, "POST", "files", form(b"x" * 400_000, purpose="vision"), FORM)
        assert (reply.status, json.loads(reply.body)["error"]["code"]) == (400, "storage_quota_exceeded")
        await bring(gateway, b"x" * 200_000)
        await nothing_left(tmp_path, 2)
        shown = gateway.app.exposition().decode()
        assert "headgate_files_brought 2.0" in shown
        assert "headgate_files_written_bytes 1.3e+06" in shown  # the refused one was written, too
