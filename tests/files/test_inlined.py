"""Files that calls name: their bytes go to the provider in place of the name, and nobody else's ever do."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.faults.test_revoked import desk, known
from tests.faults.worker import Reply, Worker, chat, worker
from tests.files.test_served import FORM, JSON, ask, bring, form, told
from tests.upstream import ScriptedUpstream, json_answer

from headgate.ops.actors import LOCAL
from headgate.ops.keyrules import KeyOrder
from headgate.ops.keys import create_key
from headgate.ops.projects import ProjectOrder, create_project

pytestmark = pytest.mark.anyio
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 2_731  # some slices, and no multiple of three
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
USED = {"prompt_tokens": 500, "completion_tokens": 4, "total_tokens": 504}
SAID = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini", "usage": USED,
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
}  # fmt: skip
PAINTED = {"created": 1, "data": [{"b64_json": "QQ=="}]}
ABSENT = "file-" + "0" * 24
IMAGES = """
[[prices.rows]]
model = "scripted-painter"
input = 0
output = 0
[prices.rows.units]
image = 0.04
"""


@asynccontextmanager
async def gateway(folder: Path, answer: Any = SAID, more: str = "") -> AsyncIterator[tuple[Worker, Any]]:
    async def said(peer: Any, _: Any) -> None:
        await peer.send(json_answer(answer))

    async with ScriptedUpstream(said) as upstream, worker(folder, upstream.base_url, more=more) as made:
        yield made, upstream


def asking(*names: str, **more: Any) -> bytes:
    parts: list[Any] = [{"type": "file", "file": {"file_id": name}} for name in names]
    return chat(messages=[{"role": "user", "content": [{"type": "text", "text": "read"}, *parts]}], **more)


def asked_for(made: Worker) -> list[str]:
    """Return the names of the files that are looked for from now on."""
    shelf, names = made.app.files().inlining._shelf, list[str]()
    look = shelf.find

    async def find(owner: Any, name: str) -> Any:
        names.append(name)
        return await look(owner, name)

    shelf.find = find
    return names


def code_of(reply: Reply) -> tuple[int, str, str]:
    error = json.loads(reply.body)["error"]
    return reply.status, error["code"], error["param"]


async def test_a_chat_gets_the_bytes_of_its_files(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (made, upstream):
        pdf = await bring(made, PDF, b"report.pdf")
        text = await bring(made, b"hello", b"a.txt")
        reply = await made.ask(asking(pdf["id"], text["id"], pdf["id"]))
        assert (reply.status, json.loads(reply.body)["choices"][0]["message"]["content"]) == (200, "ok")
        _, *parts = upstream.requests[0].json()["messages"][0]["content"]
        whole = "data:application/pdf;base64," + base64.b64encode(PDF).decode()
        assert [part["file"] for part in parts] == [
            {"filename": "report.pdf", "file_data": whole},
            {"filename": "a.txt", "file_data": "data:text/plain;base64,aGVsbG8="},
            {"filename": "report.pdf", "file_data": whole},
        ]
        booked = await made.booked(reply)
        assert booked is not None
        assert (booked.input, booked.charge) == (500, 500 * 150 + 4 * 600)
        await made.check()


async def test_the_hold_is_that_of_a_file_that_is_brought(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (made, _):
        name = (await bring(made, PDF, b"report.pdf"))["id"]
        data = "data:application/pdf;base64," + base64.b64encode(PDF).decode()
        brought = {"type": "file", "file": {"filename": "report.pdf", "file_data": data}}
        here = await made.ask(asking(name))
        there = await made.ask(
            chat(messages=[{"role": "user", "content": [{"type": "text", "text": "read"}, brought]}])
        )
        books = await made.books()
        assert books[here.request_id].hold == books[there.request_id].hold > 10_000_000


async def test_names_of_the_provider_go_to_it_as_they_are(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (made, upstream):
        assert (await made.ask(asking("file-6F2ksmvXxt4VdoqmHRw6kL"))).status == 200
        part = upstream.requests[0].json()["messages"][0]["content"][1]
        assert part["file"] == {"file_id": "file-6F2ksmvXxt4VdoqmHRw6kL"}


async def test_anothers_file_is_as_absent_as_one_that_never_was(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (made, upstream):
        with desk(tmp_path) as on:
            other = create_project(LOCAL, on, ProjectOrder(name="other"))
            foreign = create_key(LOCAL, on, KeyOrder(name="b", project=other.id)).text
            chats = create_key(LOCAL, on, KeyOrder(name="c", endpoints=("chat",))).text
        own = made.key
        await known(made, chats)
        made.key = own
        name, fault = (await bring(made, PDF))["id"], "messages[0].content[1].file.file_id"
        for key, wanted in ((foreign, name), (foreign, ABSENT), (made.key, ABSENT)):
            reply = await ask(made, "POST", "chat/completions", asking(wanted), JSON, key)
            assert code_of(reply) == (404, None, fault)
            assert json.loads(reply.body)["error"]["message"] == f"No such File object: {wanted}"
        refused = await ask(made, "POST", "chat/completions", asking(name), JSON, chats)
        assert refused.status == 403
        await told(made, "DELETE", f"files/{name}")
        assert code_of(await made.ask(asking(name))) == (404, None, fault)
        assert upstream.requests == []
        assert made.held == 0


async def test_what_is_too_large_or_empty_is_refused(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (made, _):
        empty = (await bring(made, b""))["id"]
        assert code_of(await made.ask(asking(empty)))[1] == "empty_file"
        made.app.files().inlining._most = 1_000_000
        name = (await bring(made, PDF))["id"]
        assert (await made.ask(asking(name))).status == 200
        reply = await made.ask(asking(name, name))
        assert code_of(reply) == (400, "file_too_large", "messages[0].content[2].file.file_id")


async def test_no_file_is_read_for_a_call_that_is_refused(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (made, upstream):
        own = made.key
        with desk(tmp_path) as on:
            slow = create_key(LOCAL, on, KeyOrder(name="slow", rpm=1)).text
        await known(made, slow)
        made.key = own
        name = (await bring(made, PDF))["id"]
        read = asked_for(made)
        replies = [await ask(made, "POST", "chat/completions", asking(name), JSON, slow) for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 429, 429]
        assert (len(upstream.requests), read) == (1, [name])


async def test_calls_have_no_more_of_files_in_hand_than_memory_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.files.inlining._ROOM_S", 0.2)
    go = asyncio.Event()
    async with (
        ScriptedUpstream([go, json_answer(SAID)]) as upstream,
        worker(tmp_path, upstream.base_url) as made,
    ):
        name = (await bring(made, PDF))["id"]
        load = made.app.files().inlining.load
        load._most = 2 * len(PDF)  # each has a third more, in base64
        first = asyncio.create_task(made.ask(asking(name)))
        await upstream.received(1)
        refused = await made.ask(asking(name))
        assert (refused.status, json.loads(refused.body)["error"]["code"]) == (503, "server_is_overloaded")
        assert "retry-after" in refused.headers
        second = asyncio.create_task(made.ask(asking(name)))
        await asyncio.sleep(0.05)
        go.set()
        assert [(await each).status for each in (first, second)] == [200, 200]
        assert (len(upstream.requests), load.taken) == (2, 0)
        await made.check()


async def test_answers_that_are_asked_for_one_by_one_get_the_bytes(tmp_path: Path) -> None:
    async def said(peer: Any, _: Any) -> None:
        await peer.send(json_answer(SAID))

    async with (
        ScriptedUpstream(said) as upstream,
        worker(tmp_path, upstream.base_url, extra="several = false") as made,
    ):
        name = (await bring(made, PDF, b"report.pdf"))["id"]
        read = asked_for(made)
        reply = await made.ask(asking(name, model="scripted-1", n=2))
        assert (reply.status, len(json.loads(reply.body)["choices"]), read) == (200, 2, [name])
        whole = "data:application/pdf;base64," + base64.b64encode(PDF).decode()
        files = [request.json()["messages"][0]["content"][1]["file"] for request in upstream.requests]
        assert files == [{"filename": "report.pdf", "file_data": whole}] * 2


async def test_an_edit_gets_the_bytes_of_its_images(tmp_path: Path) -> None:
    async with gateway(tmp_path, PAINTED, IMAGES) as (made, upstream):
        picture = (await bring(made, PNG, b"a.png"))["id"]
        text = (await bring(made, b"hello", b"a.png"))["id"]
        order = {"model": "scripted-painter", "prompt": "red", "images": [{"file_id": picture}]}
        reply = await made.ask(
            json.dumps(order | {"mask": {"file_id": picture}}).encode(), "/v1/images/edits"
        )
        assert reply.status == 200, reply.body
        here = {"image_url": "data:image/png;base64," + base64.b64encode(PNG).decode()}
        sent = upstream.requests[0].json()
        assert (sent["images"], sent["mask"]) == ([here], here)
        booked = await made.booked(reply)
        assert booked is not None
        assert booked.charge == 40_000_000
        for name, code in ((text, "invalid_image_file"), (ABSENT, None)):
            wrong = json.dumps(order | {"images": [{"file_id": name}]}).encode()
            assert code_of(await made.ask(wrong, "/v1/images/edits"))[1:] == (code, "images[0].file_id")


async def test_a_video_begins_with_a_file(tmp_path: Path) -> None:
    told_done = {"id": "video_1", "object": "video", "status": "completed", "progress": 100}
    seconds = IMAGES.replace("image = 0.04", "second = 0.1")
    async with gateway(tmp_path, told_done, seconds) as (made, upstream):
        picture = (await bring(made, PNG, b"a.png"))["id"]
        order = {"model": "scripted-painter", "prompt": "A canal", "seconds": "4"}
        wanted = order | {"input_reference": {"file_id": picture}}
        assert (await made.ask(json.dumps(wanted).encode(), "/v1/videos")).status == 200
        here = {"image_url": "data:image/png;base64," + base64.b64encode(PNG).decode()}
        assert upstream.requests[0].json()["input_reference"] == here
        wrong = order | {"input_reference": {"file_id": ABSENT}}
        assert code_of(await made.ask(json.dumps(wrong).encode(), "/v1/videos")) == (
            404, None, "input_reference.file_id",
        )  # fmt: skip
        assert len(upstream.requests) == 1
        assert [row.charge for row in (await made.books()).values()] == [400_000_000]


async def test_a_repeated_call_with_a_file_is_answered_once(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (made, upstream):
        name = (await bring(made, PDF))["id"]
        replies = [await made.ask(asking(name), more="Idempotency-Key: one\r\n") for _ in range(2)]
        assert [reply.status for reply in replies] == [200, 200]
        assert len(upstream.requests) == 1


async def test_an_upload_of_tiny_parts_is_one_picture(tmp_path: Path) -> None:
    async with gateway(tmp_path, PAINTED, IMAGES) as (made, upstream):
        order = {"bytes": len(PNG), "filename": "a.png", "mime_type": "image/png", "purpose": "vision"}
        upload = (await told(made, "POST", "uploads", json.dumps(order).encode()))["id"]
        parts = [
            (await told(made, "POST", f"uploads/{upload}/parts", form(part, name=b"data"), FORM))["id"]
            for part in (PNG[:2], PNG[2:3], PNG[3:])
        ]
        whole = json.dumps({"part_ids": parts}).encode()
        name = (await told(made, "POST", f"uploads/{upload}/complete", whole))["file"]["id"]
        edit = {"model": "scripted-painter", "prompt": "red", "images": [{"file_id": name}]}
        assert (await made.ask(json.dumps(edit).encode(), "/v1/images/edits")).status == 200
        url = upstream.requests[0].json()["images"][0]["image_url"]
        assert base64.b64decode(url.partition(",")[2]) == PNG
