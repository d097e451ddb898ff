"""OpenAI's own client and plain sockets bring files to a running gateway, and take them back."""

from __future__ import annotations

import asyncio
import hashlib
import json
import select
import signal
import socket
import time
import urllib.request

import openai
import pytest
from tests.surfaces.clients import openai_client
from tests.surfaces.conftest import Gateway

BIG = bytes(range(256)) * (12 << 12)  # 12 MiB


@pytest.fixture
def client(simulated) -> openai.OpenAI:
    return openai_client(simulated.base, simulated.key)


def fetch(simulated, path: str, **headers: str):
    request = urllib.request.Request(simulated.base + path, headers=headers)
    request.add_header("Authorization", f"Bearer {simulated.key}")
    try:
        answer = urllib.request.urlopen(request, timeout=20)
    except urllib.error.HTTPError as refused:
        answer = refused
    with answer:
        return answer.status, answer.headers, answer.read()


def test_a_file_is_brought_found_listed_fetched_and_deleted(client):
    made = client.files.create(file=("a.jsonl", b'{"a":1}\n'), purpose="batch")
    assert (made.object, made.bytes, made.filename, made.purpose) == ("file", 8, "a.jsonl", "batch")
    assert (made.status, made.status_details) == ("processed", None)
    assert made.expires_at == made.created_at + 30 * 86_400
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == b'{"a":1}\n'
    assert made.id in [row.id for row in client.files.list(purpose="batch")]
    assert made.id not in [row.id for row in client.files.list(purpose="vision")]
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError) as gone:
        client.files.retrieve(made.id)
    body = gone.value.body
    assert body == {
        "message": f"No such File object: {made.id}", "type": "invalid_request_error", "param": "id", "code": None,
    }  # fmt: skip
    for ask in (client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match="No such File object"):
            ask(made.id)


def test_a_long_one_comes_in_pieces_and_goes_in_ranges(client, simulated):
    made = client.files.create(
        file=("big.bin", BIG), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert made.expires_at == made.created_at + 3600
    assert client.files.content(made.id).read() == BIG
    path = f"/files/{made.id}/content"
    _, headers, _ = fetch(simulated, path)
    assert headers["etag"] == f'"{hashlib.sha256(BIG).hexdigest()}"'
    assert headers["content-type"] == "application/octet-stream"
    for asked, start, end in (
        ("5-9", 5, 10),
        ("12000000-", 12_000_000, len(BIG)),
        ("-3", len(BIG) - 3, len(BIG)),
    ):
        status, headers, body = fetch(simulated, path, Range=f"bytes={asked}")
        assert (status, body) == (206, BIG[start:end])
        assert headers["content-range"] == f"bytes {start}-{end - 1}/{len(BIG)}"
    status, _, body = fetch(simulated, path, Range="bytes=5-9", **{"If-Range": '"other"'})
    assert (status, len(body)) == (200, len(BIG))
    status, headers, body = fetch(simulated, path, Range="bytes=99999999-")
    assert (status, headers["content-range"]) == (416, f"bytes */{len(BIG)}")
    assert json.loads(body)["error"]["code"] == "range_not_satisfiable"
    client.files.delete(made.id)


def test_pages_follow_one_another(client):
    made = {client.files.create(file=(f"{n}.txt", b"x"), purpose="evals").id for n in range(5)}
    page = client.files.list(purpose="evals", limit=2)
    assert (len(page.data), page.has_more) == (2, True)
    raw = client.files.with_raw_response.list(purpose="evals", limit=2).http_response.json()
    assert [raw["first_id"], raw["last_id"]] == [row.id for row in page.data]
    newest = [row.id for row in page]  # it turns the pages itself
    assert (set(newest), len(newest)) == (made, 5)
    assert [row.id for row in client.files.list(purpose="evals", order="asc")] == newest[::-1]
    for name in made:
        client.files.delete(name)
    empty = client.files.with_raw_response.list(purpose="evals").http_response.json()
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("sent", "param", "said"),
    [
        ({"purpose": "nope"}, "purpose", "'nope' is not one of"),
        ({"purpose": "batch_output"}, "purpose", "is not one of"),
        ({}, "purpose", "'purpose' is a required property"),
        ({"purpose": "batch", "x": "y"}, "x", "Unknown parameter: 'x'"),
        ({"purpose": "batch", "expires_after[seconds]": "3600"}, "expires_after.anchor", "Missing required"),
        (
            {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"},
            "expires_after.seconds",
            "Expected a value >= 3600, but got 3599",
        ),
        (
            {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "2592001"},
            "expires_after.seconds",
            "Expected a value <= 2592000",
        ),
        (
            {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "soon"},
            "expires_after.seconds",
            "expected an integer",
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 600_000])
def test_what_is_wrong_with_a_form_is_said(client, sent, param, said, size):
    before = len(list(client.files.list()))
    with pytest.raises(openai.BadRequestError, match=said) as refused:
        client.post(
            "/files",
            cast_to=object,
            body=sent,
            files={"file": ("a.txt", b"x" * size)},
            options={"headers": {"Content-Type": "multipart/form-data"}},
        )
    assert refused.value.param == param
    assert len(list(client.files.list())) == before


def test_a_form_without_a_file_with_two_or_none_at_all_is_refused(client):
    def post(**more):
        return client.post("/files", cast_to=object, **more)

    form = {"headers": {"Content-Type": "multipart/form-data"}}
    with pytest.raises(openai.BadRequestError, match="'file' is a required property"):
        post(body={"purpose": "batch"}, files={"other": (None, b"x")}, options=form)
    with pytest.raises(openai.BadRequestError, match="Unknown parameter: 'data'"):
        post(body={"purpose": "batch"}, files={"data": ("a", b"x")}, options=form)
    with pytest.raises(openai.BadRequestError, match="more than one file"):
        post(body={"purpose": "batch"}, files=[("file", ("a", b"x")), ("file", ("b", b"x"))], options=form)
    with pytest.raises(openai.APIStatusError, match="Send a form") as refused:
        post(body={"purpose": "batch"})
    assert refused.value.status_code == 415
    with pytest.raises(openai.APIStatusError, match="Not allowed to PUT on /v1/files") as refused:
        client.put("/files", cast_to=object)
    assert refused.value.status_code == 405


def test_the_async_client_does_the_same(simulated):
    async def run() -> None:
        async with openai.AsyncOpenAI(
            base_url=simulated.base, api_key=simulated.key, max_retries=0
        ) as client:
            made = await asyncio.gather(
                *(client.files.create(file=(f"{n}.bin", BIG[: n << 20]), purpose="vision") for n in range(4))
            )
            assert [file.bytes for file in made] == [n << 20 for n in range(4)]
            for n, file in enumerate(made):
                assert (await client.files.content(file.id)).content == BIG[: n << 20]
                await client.files.delete(file.id)

    asyncio.run(run())


def test_without_a_key_a_long_form_is_refused_while_it_comes(simulated):
    host, port = simulated.base.removeprefix("http://").removesuffix("/v1").split(":")
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer sk-wrong\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 400000000\r\n\r\n"
    ).encode()
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(head)
        sock.sendall(part)
        sent = 0
        while sent < 4_000_000 and not select.select([sock], [], [], 0.05)[0]:
            sock.sendall(b"x" * 100_000)
            sent += 100_000
        said = sock.recv(100_000)
    assert said.startswith(b"HTTP/1.1 401 ")
    assert sent < 1_000_000
    assert not list((simulated.data / "files").rglob("*x*"))


def test_one_that_is_too_large_is_refused_before_it_is_sent(simulated):
    host, port = simulated.base.removeprefix("http://").removesuffix("/v1").split(":")
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {simulated.key}\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 600000000\r\n\r\n"
    ).encode()
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(head)
        said = sock.recv(100_000)
    assert said.startswith(b"HTTP/1.1 413 ")


def test_a_file_is_put_together_of_parts_as_the_sdk_does_it(client, tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_bytes(BIG)
    done = client.uploads.upload_file_chunked(
        file=path,
        mime_type="text/jsonl",
        purpose="batch",
        part_size=5 << 20,
        md5=hashlib.md5(BIG).hexdigest(),
    )
    assert (done.object, done.status, done.bytes, done.filename) == (
        "upload",
        "completed",
        len(BIG),
        "long.jsonl",
    )
    assert done.expires_at == done.created_at + 3600
    assert done.file is not None
    assert (done.file.bytes, done.file.purpose) == (len(BIG), "batch")
    assert done.file.expires_at == done.file.created_at + 30 * 86_400
    assert client.files.content(done.file.id).read() == BIG
    client.files.delete(done.file.id)


def test_parts_come_in_any_order_and_those_that_are_not_named_are_not_in_it(client, simulated):
    upload = client.uploads.create(bytes=9, filename="a.txt", mime_type="text/plain", purpose="assistants")
    assert (upload.status, upload.file) == ("pending", None)
    parts = [client.uploads.parts.create(upload.id, data=data) for data in (b"def", b"xxx", b"abc", b"ghi")]
    assert {part.upload_id for part in parts} == {upload.id}
    d, x, a, g = (part.id for part in parts)
    for ids, said in (
        ([a, d], "6 bytes, and the Upload was made for 9"),
        ([a, d, g, x], "12 bytes"),
        ([a, d, d], r"no part '.*', or it is given twice"),
        ([a, d, "part_x"], "no part 'part_x'"),
        ([], "0 bytes"),
    ):
        with pytest.raises(openai.BadRequestError, match=said):
            client.uploads.complete(upload.id, part_ids=ids)
    with pytest.raises(openai.BadRequestError, match="The MD5 of the parts is"):
        client.uploads.complete(upload.id, part_ids=[a, d, g], md5="0" * 32)
    done = client.uploads.complete(upload.id, part_ids=[a, d, g])
    assert done.file is not None
    assert client.files.content(done.file.id).read() == b"abcdefghi"
    status, _, body = fetch(simulated, f"/files/{done.file.id}/content", Range="bytes=2-6")
    assert (status, body) == (206, b"cdefg")
    for late in (
        lambda: client.uploads.parts.create(upload.id, data=b"late"),
        lambda: client.uploads.complete(upload.id, part_ids=[a, d, g]),
        lambda: client.uploads.cancel(upload.id),
    ):
        with pytest.raises(openai.BadRequestError, match="is completed: it takes no more"):
            late()
    client.files.delete(done.file.id)


def test_one_that_is_given_up_leaves_nothing(client, simulated):
    before = {path for path in (simulated.data / "files").rglob("*") if path.is_file()}
    upload = client.uploads.create(bytes=9, filename="a", mime_type="", purpose="vision")
    client.uploads.parts.create(upload.id, data=b"abc")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="is cancelled"):
        client.uploads.parts.create(upload.id, data=b"abc")
    deadline = time.monotonic() + 10
    while (kept := {path for path in (simulated.data / "files").rglob("*") if path.is_file()}) != before:
        assert time.monotonic() < deadline, kept - before
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"bytes": None}, "bytes"),
        ({"bytes": -1}, "bytes"),
        ({"bytes": "9"}, "bytes"),
        ({"bytes": (8 << 30) + 1}, "bytes"),
        ({"purpose": "x"}, "purpose"),
        ({"filename": 5}, "filename"),
        ({"filename": "x" * 600}, "filename"),
        ({"mime_type": None}, "mime_type"),
        ({"other": 1}, "other"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
        ({"expires_after": {"seconds": 3600}}, "expires_after.anchor"),
        ({"expires_after": 5}, "expires_after"),
    ],
)
def test_what_is_wrong_with_an_upload_is_said(client, change, param):
    right = {"bytes": 9, "filename": "a", "mime_type": "text/plain", "purpose": "batch"}
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/uploads", cast_to=object, body={**right, **change})
    assert refused.value.param == param


def test_a_kill_in_the_middle_leaves_nothing_and_takes_nothing(tmp_path):
    def blobs():
        return [path for path in (gateway.data / "files").rglob("*") if path.is_file()]

    gateway = Gateway(tmp_path)
    client = openai_client(gateway.base, gateway.key)
    kept = client.files.create(file=("a", BIG), purpose="user_data")
    host, port = gateway.base.removeprefix("http://").removesuffix("/v1").split(":")
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {gateway.key}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 90000000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    ).encode()
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(head + BIG)
        due = time.monotonic() + 20
        while len(blobs()) < 2 and time.monotonic() < due:
            time.sleep(0.05)
        assert len(blobs()) == 2
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in blobs())
        gateway.stop(signal.SIGKILL)
    key, gateway = gateway.key, Gateway(tmp_path)
    client = openai_client(gateway.base, key)
    due = time.monotonic() + 20
    while len(blobs()) > 1 and time.monotonic() < due:
        time.sleep(0.05)
    assert len(blobs()) == 1
    assert client.files.content(kept.id).read() == BIG
    code, _, err = gateway.stop()
    assert (code, err) == (0, "")
