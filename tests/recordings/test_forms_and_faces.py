"""What is recorded besides chat: forms, whose boundary is another one each time, another API's face, and videos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openai import OpenAI
from tests.faults.worker import MODELS, chat, worker
from tests.recordings.callers import ask, put_away, replays
from tests.recordings.test_once import ANOTHER_KEY
from tests.surfaces.conftest import Gateway
from tests.upstream import ScriptedUpstream, chat_json, chunk, json_answer, stream_steps

pytestmark = pytest.mark.anyio
WAV = (
    b"RIFF\x24\x3e\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00@\x1f\x00\x00@\x1f\x00\x00\x01\x00\x08\x00data\x00>\x00\x00"
    + bytes(15872)
)


def form(boundary: str, model: str = "whisper-1", data: bytes = WAV) -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n'
    file = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return (head + file).encode() + data + f"\r\n--{boundary}--\r\n".encode()


async def test_a_form_is_the_same_whatever_its_boundary(tmp_path: Path) -> None:
    said = json_answer({"text": "hello", "usage": {"type": "duration", "seconds": 2}})
    path = "/v1/audio/transcriptions"
    price = '[[prices.rows]]\nmodel = "whisper-1"\ninput = 0\noutput = 0\nunits = { second = "0.0001" }\n'
    async with ScriptedUpstream(said) as upstream, worker(tmp_path, upstream.base_url, more=price) as gateway:

        async def send(boundary: str, data: bytes = WAV) -> tuple[int, bytes, str]:
            kind = f"multipart/form-data; boundary={boundary}"
            reply = await ask(
                gateway, form(boundary, data=data), path, idempotency_key="f", content_type=kind
            )
            await put_away(gateway)
            return reply.status, reply.body, reply.headers.get("idempotent-replayed", "")

        first, again = await send("aaa"), await send("bbb")
        other = await send("ccc", WAV[:-2])
        assert first[0] == 200, first
        assert again == (200, first[1], "true")
        assert other[0] == 422
        assert len(upstream.requests) == 1


async def test_another_apis_face_is_recorded_too(tmp_path: Path) -> None:
    body = chat(max_tokens=50)
    async with ScriptedUpstream(chat_json("hi")) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        first = await ask(gateway, body, "/v1/messages", idempotency_key="m")
        await put_away(gateway)
        again = await ask(gateway, body, "/v1/messages", idempotency_key="m")
        counted = await ask(gateway, body, "/v1/messages/count_tokens", idempotency_key="m")
        reused = await ask(gateway, chat(max_tokens=51), "/v1/messages", idempotency_key="m")
        assert first.status == 200, first.body
        assert again.body == first.body
        assert b'"type":"message"' in again.body
        assert len(await replays(gateway)) == 1
        assert counted.status == 200
        assert reused.status == 422
        assert b'"type":"error"' in reused.body
        assert len(upstream.requests) == 1


async def test_several_answers_that_come_apart_are_one_recording(tmp_path: Path) -> None:
    extra = "several = false"
    async with (
        ScriptedUpstream(chat_json("hi")) as upstream,
        worker(tmp_path, upstream.base_url, extra=extra) as gateway,
    ):
        body = chat(model=MODELS[1], n=3)
        first = await ask(gateway, body, idempotency_key="n")
        await put_away(gateway)
        again = await ask(gateway, body, idempotency_key="n")
        assert again.body == first.body
        assert first.body.count(b'"index"') == 3
        assert len(upstream.requests) == 3
        assert len(await replays(gateway)) == 1


async def test_several_answers_of_which_one_breaks_off_say_that_their_key_gives_no_more(
    tmp_path: Path,
) -> None:
    head, *frames = stream_steps()
    broken = [head, *frames[:2], chunk(b"")]
    async with (
        ScriptedUpstream(broken) as upstream,
        worker(tmp_path, upstream.base_url, extra="several = false") as gateway,
    ):
        body = chat(model=MODELS[1], n=2, stream=True)
        first = await ask(gateway, body, idempotency_key="n")
        assert json.loads(first.events[-1])["error"]["message"].endswith(ANOTHER_KEY)
        await put_away(gateway)
        assert (await ask(gateway, body, idempotency_key="n")).body == first.body


@pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
def test_a_video_is_ordered_once(simulated: Gateway) -> None:
    client = OpenAI(base_url=simulated.base, api_key=simulated.key, max_retries=0)

    def order(key: str) -> str:
        made = client.videos.create(
            model="veo-3.1-generate-preview",
            prompt="A lock",
            seconds="4",
            extra_headers={"Idempotency-Key": key},
        )
        return made.id

    first = order("film")
    assert order("film") == first
    assert order("another") != first
    client.close()
