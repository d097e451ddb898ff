"""One `Idempotency-Key` on every `POST` of the data plane, of which the table of routes says which there are."""

from __future__ import annotations

import http.client
import io
import json
import time
import wave
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from tests.faults.worker import Reply, worker
from tests.recordings.callers import ask, put_away
from tests.surfaces.conftest import Gateway

from headgate.http.dataplane import DataPlane
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.database import RECORDINGS, connect
from headgate.stores.sql.sqlite import open_file
from headgate.wire.recorded import State

JSON, FORM = "application/json", "multipart/form-data; boundary=bOuNd"
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360f8cf500f0003860180"
    "5a346f5f0000000049454e44ae426082"
)


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes
    replayed: bool

    @property
    def said(self) -> Any:
        return json.loads(self.body)


class Client:
    """Whoever sends requests to a running gateway."""

    def __init__(self, gateway: Gateway) -> None:
        where = urlsplit(gateway.base)
        self._place = (where.hostname, where.port)
        self._key = gateway.key

    def send(self, path: str, body: bytes, kind: str = JSON, once: str = "", method: str = "POST") -> Answer:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": kind}
        if once:
            headers["Idempotency-Key"] = once
        line = http.client.HTTPConnection(*self._place, timeout=30)
        line.request(method, path, body, headers)
        answer = line.getresponse()
        read = answer.read()
        line.close()
        return Answer(answer.status, read, answer.headers["idempotent-replayed"] == "true")

    def file(self, data: bytes, purpose: str = "user_data", once: str = "") -> Answer:
        return self.send("/v1/files", form(data, purpose=purpose), FORM, once)

    def upload(self) -> str:
        return self.send("/v1/uploads", order("a.txt")).said["id"]

    def batch(self, lines: int = 1) -> bytes:
        rows = [
            {"custom_id": f"n{n}", "method": "POST", "url": "/v1/chat/completions", "body": json.loads(CHAT)}
            for n in range(lines)
        ]
        made = self.file(b"\n".join(json.dumps(row).encode() for row in rows), "batch")
        return packed(input_file_id=made.said["id"], endpoint="/v1/chat/completions", completion_window="24h")


def packed(**members: object) -> bytes:
    return json.dumps(members).encode()


def form(data: bytes, name: str = "file", filename: str = "a.txt", **fields: str) -> bytes:
    parts = [
        f'--bOuNd\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    head = f'--bOuNd\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
    return b"".join((*parts, head.encode(), data, b"\r\n--bOuNd--\r\n"))


def order(filename: str) -> bytes:
    return packed(filename=filename, purpose="user_data", bytes=4, mime_type="text/plain")


def sound() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(1)
        made.setframerate(8000)
        made.writeframes(bytes(16000))
    return file.getvalue()


SAID = [{"role": "user", "content": "Tell me of locks."}]
CHAT = packed(model="gpt-4o-mini", messages=SAID)
SECRET = packed(session={"type": "realtime", "model": "gpt-realtime"})
Ask = tuple[str, bytes, str]  # the path, the body and its kind
# What is asked of each route, and what else under the same key.
Row = tuple[Callable[[Client], Ask], Callable[[Ask], bytes]]


def fixed(path: str, body: bytes, kind: str = JSON) -> Row:
    if kind == JSON:
        return lambda _: (path, body, kind), lambda ask: ask[1].replace(b"}", b" }", 1)
    return lambda _: (path, body, kind), lambda ask: ask[1].replace(b'filename="a.', b'filename="b.')


def another(_: Ask) -> bytes:
    return b'{"metadata": {}}'


def complete(client: Client) -> Ask:
    upload = client.upload()
    part = client.send(f"/v1/uploads/{upload}/parts", form(b"abcd", "data"), FORM).said["id"]
    return f"/v1/uploads/{upload}/complete", packed(part_ids=[part]), JSON


def cancel_batch(client: Client) -> Ask:
    made = client.send("/v1/batches", client.batch(600)).said["id"]
    while client.send(f"/v1/batches/{made}", b"", method="GET").said["status"] == "validating":
        time.sleep(0.01)
    return f"/v1/batches/{made}/cancel", b"", JSON


EVERY: dict[str, Row] = {
    "/v1/chat/completions": fixed("/v1/chat/completions", CHAT),
    "/v1/completions": fixed("/v1/completions", packed(model="gpt-3.5-turbo-instruct", prompt="A lock")),
    "/v1/embeddings": fixed("/v1/embeddings", packed(model="text-embedding-3-small", input="a lock")),
    "/v1/moderations": fixed("/v1/moderations", packed(model="omni-moderation-latest", input="a lock")),
    "/v1/images/generations": fixed("/v1/images/generations", packed(model="gpt-image-1", prompt="A lock")),
    "/v1/audio/speech": fixed("/v1/audio/speech", packed(model="tts-1", input="A lock", voice="alloy")),
    "/v1/images/edits": fixed(
        "/v1/images/edits", form(PIXEL, "image", "a.png", model="gpt-image-1", prompt="A lock"), FORM
    ),
    "/v1/images/variations": fixed(
        "/v1/images/variations", form(PIXEL, "image", "a.png", model="dall-e-2"), FORM
    ),
    "/v1/audio/transcriptions": fixed(
        "/v1/audio/transcriptions", form(sound(), "file", "a.wav", model="whisper-1"), FORM
    ),
    "/v1/audio/translations": fixed(
        "/v1/audio/translations", form(sound(), "file", "a.wav", model="whisper-1"), FORM
    ),
    "/v1/messages": fixed("/v1/messages", packed(model="gpt-4o-mini", max_tokens=50, messages=SAID)),
    "/v1/realtime/client_secrets": fixed("/v1/realtime/client_secrets", SECRET),
    "/v1/videos": fixed("/v1/videos", packed(model="veo-3.1-generate-preview", prompt="A lock", seconds="4")),
    "/v1/files": (
        lambda _: ("/v1/files", form(b"one", purpose="user_data"), FORM),
        lambda _: form(b"two", purpose="user_data"),
    ),
    "/v1/uploads": fixed("/v1/uploads", order("a.txt")),
    "/v1/uploads/{id}/parts": (
        lambda client: (f"/v1/uploads/{client.upload()}/parts", form(b"ab", "data"), FORM),
        lambda _: form(b"cd", "data"),
    ),
    "/v1/uploads/{id}/complete": (complete, another),
    "/v1/uploads/{id}/cancel": (lambda client: (f"/v1/uploads/{client.upload()}/cancel", b"", JSON), another),
    "/v1/batches": (lambda client: ("/v1/batches", client.batch(), JSON), another),
    "/v1/batches/{id}/cancel": (cancel_batch, another),
}
PURE = {"/v1/messages/count_tokens"}  # the same body has the same answer, and nothing is made


@pytest.mark.anyio
async def test_every_post_is_in_the_table_here(tmp_path: Path) -> None:
    async with worker(tmp_path, "http://127.0.0.1:9/v1") as gateway:
        served = DataPlane(gateway.app, 1, 1).served()
        assert {path for method, path in served if method == b"POST"} == EVERY.keys() | PURE


@pytest.mark.parametrize("path", EVERY)
def test_the_same_again_is_the_same_and_another_is_refused(simulated: Gateway, path: str) -> None:
    client, (prepare, otherwise) = Client(simulated), EVERY[path]
    where, body, kind = ask = prepare(client)
    first = client.send(where, body, kind, once=path)
    again = client.send(where, body, kind, once=path)
    other = client.send(where, otherwise(ask), kind, once=path)
    assert (first.status, first.replayed) == (200, False), first.body
    assert again == (200, first.body, True)
    assert other.status == 422, other.body
    assert "This Idempotency-Key was sent with another request" in other.said["error"]["message"]


@pytest.mark.parametrize("path", EVERY)
def test_a_key_that_is_none_is_refused(simulated: Gateway, path: str) -> None:
    client = Client(simulated)
    where, body, kind = EVERY[path][0](client)
    refused = client.send(where, body, kind, once="with space")
    assert refused.status == 400
    assert "1 to 255 visible ASCII" in refused.said["error"]["message"]


def test_the_same_key_twice_is_one_file_and_another_path_is_another_request(simulated: Gateway) -> None:
    client = Client(simulated)
    before = len(listed(client))
    data = b"x" * (3 << 20)  # it comes in many pieces
    first, again = client.file(data, once="one"), client.file(data, once="one")
    elsewhere = client.send("/v1/uploads", order("a.txt"), once="one")
    assert first.said["id"] == again.said["id"]
    assert len(listed(client)) == before + 1
    assert elsewhere.status == 422
    reordered = form(data, purpose="user_data").replace(b"bOuNd", b"other")
    redrawn = client.send("/v1/files", reordered, "multipart/form-data; boundary=other", "one")
    renamed = client.send("/v1/files", form(data, filename="b.txt", purpose="user_data"), FORM, "one")
    assert (redrawn.said["id"], redrawn.replayed) == (first.said["id"], True)
    assert renamed.status == 422


def test_twenty_who_bring_a_file_at_once_bring_one(simulated: Gateway) -> None:
    client = Client(simulated)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: client.file(b"x" * 300_000, once="at-once"), range(20)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert sum(answer.replayed for answer in answers) == 19


def test_a_refused_form_can_be_sent_again_mended(simulated: Gateway) -> None:
    client = Client(simulated)
    wrong = client.file(b"x", purpose="none such", once="mended")
    right = client.file(b"x", once="mended")
    assert (wrong.status, right.status, right.replayed) == (400, 200, False)


def listed(client: Client) -> list[object]:
    data: list[object] = client.send("/v1/files?purpose=user_data&limit=1000", b"", method="GET").said["data"]
    return data


@pytest.mark.anyio
async def test_what_was_made_before_a_crash_is_not_made_twice(tmp_path: Path) -> None:
    async with worker(tmp_path, "http://127.0.0.1:9/v1") as gateway:
        body = form(b"before", purpose="user_data")

        async def bring() -> Reply:
            return await ask(gateway, body, "/v1/files", content_type=FORM, idempotency_key="crash")

        made = json.loads((await bring()).body)["id"]
        await put_away(gateway)
        sql = open_file(gateway._folder / RECORDINGS)
        with writing(sql):  # as a worker finds it that starts after the process was killed
            sql.execute("UPDATE recordings SET state = ?, answer = NULL, size = 0", (State.LOST,))
        sql.close()
        again = await bring()
        error = json.loads(again.body)["error"]
        assert (again.status, error["code"]) == (409, "idempotent_answer_lost")
        assert f"req_{made.removeprefix('file-')}" in error["message"]
        await ask(gateway, path=f"/v1/files/{made}", method="DELETE")
        assert (await bring()).status == 200  # nothing of it is left


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("table", "name", "columns"),
    [
        ("videos", "video_", {"slot": 0, "open": 0, "deleted": 0, "job": "{}"}),
        ("batches", "batch_", {"book": 0, "key": 1, "status": "completed", "expires_at": 2, "job": "{}"}),
    ],
)
async def test_what_a_call_has_left_behind_may_have_been_paid(
    tmp_path: Path, table: str, name: str, columns: dict[str, object]
) -> None:
    async with worker(tmp_path, "http://127.0.0.1:9/v1") as gateway:
        store, call = gateway.app.recorder()._store, bytes(range(16))
        assert await store.charged(call) == 0
        row = {"id": name + call.hex(), "project": 1, "created_at": 1, **columns}
        sql = connect(gateway._folder)
        with writing(sql):
            marks = ", ".join("?" * len(row))
            sql.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
        sql.close()
        assert await store.charged(call) is None
