"""Pure parts: what an order may be, what each wire makes of it, and that the simulator's film is one."""

from __future__ import annotations

import base64
import json
from struct import unpack
from typing import Any

import msgspec
import pytest

from headgate.errors import CallerError, UpstreamInterrupted
from headgate.money.cost import cost, covers
from headgate.money.prices import PriceBook
from headgate.ports import SystemClock
from headgate.providers.gemini import VeoVideos
from headgate.providers.videos import OpenAIVideos
from headgate.providers.xai import XaiVideos
from headgate.transport.faults import Redirected
from headgate.transport.simulator.film import film
from headgate.values import Book, Host, Model, Target, Usage
from headgate.videos.works import _followed
from headgate.wire.videos import Picture, VideoJob, VideoOrder, read_order

JSON = b"application/json"
FORM = b"multipart/form-data; boundary=xyz"
GOOD = {"model": "veo-3.1-generate-preview", "prompt": "A cat"}
TARGET = Target(
    host=Host(name="google", kind="gemini", base_url="https://g.example/v1beta", api_key="k"),
    model=Model(name="veo-3.1-generate-preview"),
    prices=None,
    headers=(("x-goog-api-key", "k"),),
    base_path="/v1beta",
)
JOB = VideoJob(
    "video_1", b"", 0, 1, 1, 1, 0, Book.REAL, "m", "google", "m", "A cat", 4, "720x1280", "second:720p", 1,
    operation="models/m/operations/1",
)  # fmt: skip


def form(*parts: tuple[str, bytes]) -> bytes:
    return (
        b"".join(
            b"--xyz\r\nContent-Disposition: form-data; name=%b\r\n\r\n%b\r\n" % (head.encode(), data)
            for head, data in parts
        )
        + b"--xyz--\r\n"
    )


def test_an_order_is_the_same_as_json_and_as_a_form() -> None:
    members = {**GOOD, "seconds": "8", "size": "1280x720"}
    picture = {"image_url": "data:image/png;base64," + base64.b64encode(b"\r\n--x").decode()}
    as_json = read_order(JSON, json.dumps({**members, "input_reference": picture}).encode())
    fields = [(f'"{name}"', value.encode()) for name, value in members.items()]
    file = ('"input_reference"; filename="a.png"\r\nContent-Type: image/png', b"\r\n--x")
    assert read_order(FORM, form(*fields, file)) == as_json
    assert as_json == VideoOrder(GOOD["model"], "A cat", 8, 1280, 720, Picture("image/png", b"\r\n--x"))
    assert read_order(JSON, json.dumps(GOOD).encode()).seconds == 4


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"model": None}, "model"),
        ({"seconds": "0"}, "seconds"),
        ({"seconds": "x"}, "seconds"),
        ({"seconds": 61}, "seconds"),
        ({"seconds": True}, "seconds"),
        ({"size": "big"}, "size"),
        ({"size": 720}, "size"),
        ({"n": 2}, "n"),
        ({"input_reference": "x"}, "input_reference"),
        ({"input_reference": {"file_id": "file-1"}}, "input_reference.file_id"),
        ({"input_reference": {"image_url": "data:image/png;base64,!"}}, "input_reference"),
    ],
)
def test_what_cannot_be_ordered_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(CallerError) as caught:
        read_order(JSON, json.dumps({**GOOD, **change}).encode())
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, b"{"),
        (JSON, b"[]"),
        (JSON, b'{"prompt": "\xe9"}'),
        (b"multipart/form-data", form()),
        (FORM, b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\nx'),
        (FORM, b"--xyz\r\n\r\n\r\n--xyz--"),
        (FORM, b"--xyz\r\nno head\r\n--xyz--"),
        (FORM, b""),
    ],
)
def test_what_is_no_order_at_all_is_refused(kind: bytes, body: bytes) -> None:
    with pytest.raises(CallerError):
        read_order(kind, body)


@pytest.mark.parametrize(("seconds", "size"), [(5, (1280, 720)), (8, (1024, 1792)), (60, (1280, 720))])
def test_veo_makes_what_google_says_and_nothing_else(seconds: int, size: tuple[int, int]) -> None:
    with pytest.raises(CallerError, match="This model makes"):
        VeoVideos().create(VideoOrder("veo", "A cat", seconds, *size), TARGET, "r")


def test_an_image_goes_in_the_form_that_veo_takes() -> None:
    order = VideoOrder("veo", "A cat", 4, 720, 1280, Picture("image/png", b"png"))
    body = json.loads(VeoVideos().create(order, TARGET, "r").body)
    assert body["instances"][0]["image"] == {"bytesBase64Encoded": "cG5n", "mimeType": "image/png"}
    assert body["parameters"] == {"aspectRatio": "9:16", "resolution": "720p", "durationSeconds": 4}


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b'{"name": "../x"}', b'{"name": "a b"}', b"<html>", b'{"name": "\xe9"}']
)
def test_what_is_no_operation_is_not_believed(body: bytes) -> None:
    with pytest.raises(UpstreamInterrupted):
        VeoVideos().state(body)


def test_the_key_goes_to_the_provider_alone() -> None:
    own = msgspec.structs.replace(JOB, source="https://g.example/v1beta/files/a:download?alt=media")
    assert VeoVideos().content(own, TARGET)[1].headers == TARGET.headers
    for source in ("https://elsewhere.example/a", "https://g.example.evil.example/v1beta/a"):
        origin, request = VeoVideos().content(msgspec.structs.replace(JOB, source=source), TARGET)
        assert request.headers == ()
        assert source.startswith(origin)
    _, request = VeoVideos().content(own, TARGET)
    origin, followed = _followed(Redirected("", "https://storage.example/x?sig=1"), request)
    assert (origin, followed.path, followed.headers) == ("https://storage.example", "/x?sig=1", ())
    for bad in ("http://storage.example/x", "/x", "file:///etc/passwd", ""):
        with pytest.raises(UpstreamInterrupted):
            _followed(Redirected("", bad), request)


def test_xai_is_asked_in_its_own_words() -> None:
    request = XaiVideos().create(VideoOrder("m", "A cat", 15, 854, 480), TARGET, "r")
    assert (request.method, request.path) == ("POST", "/v1beta/videos/generations")
    asked = {"model": TARGET.model.name, "prompt": "A cat"}
    assert json.loads(request.body) == asked | {
        "duration": 15,
        "aspect_ratio": "16:9",
        "resolution": "480p",
    }
    assert XaiVideos().ask(JOB, TARGET).path == "/v1beta/videos/models/m/operations/1"
    for seconds, size, picture, param in (
        (16, (1280, 720), None, "seconds"),
        (4, (1280, 700), None, "size"),
        (4, (1000, 720), None, "size"),
        (4, (3840, 2160), None, "size"),
        (4, (1280, 720), Picture("image/png", b"png"), "input_reference"),
    ):
        with pytest.raises(CallerError) as refused:
            XaiVideos().create(VideoOrder("m", "A cat", seconds, *size, picture), TARGET, "r")
        assert refused.value.param == param


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({"request_id": "a-1"}, "in_progress", ""),
        ({"status": "pending", "progress": 40}, "in_progress", ""),
        ({"status": "done", "video": {"url": "https://v.example/a.mp4", "duration": 4}}, "completed", ""),
        (
            {"status": "done", "video": {"url": "", "respect_moderation": False}},
            "failed",
            "moderation_blocked",
        ),
        ({"status": "done"}, "failed", "video_failed"),
        ({"status": "expired"}, "failed", "video_failed"),
        ({"status": "failed", "error": {"code": "bad_prompt", "message": "No."}}, "failed", "bad_prompt"),
    ],
)
def test_what_xai_says_of_a_job(said: dict[str, Any], status: str, code: str) -> None:
    state = XaiVideos().state(json.dumps(said).encode())
    assert (state.status, state.error_code) == (status, code)
    assert state.operation == said.get("request_id", "")


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"request_id": "../x"}', b"<html>"])
def test_what_is_no_answer_of_xais_is_not_believed(body: bytes) -> None:
    with pytest.raises(UpstreamInterrupted):
        XaiVideos().state(body)


def test_openais_own_wire_says_the_same() -> None:
    request = OpenAIVideos().create(VideoOrder("m", "A cat", 8, 1280, 720), TARGET, "r")
    assert (request.method, request.path) == ("POST", "/v1beta/videos")
    members = json.loads(request.body)
    assert members == {"model": TARGET.model.name, "prompt": "A cat", "seconds": "8", "size": "1280x720"}
    failed = {"id": "video_9", "status": "failed", "error": {"code": "moderation", "message": "No."}}
    state = OpenAIVideos().state(json.dumps(failed).encode())
    assert (state.status, state.error_code, state.error_message) == ("failed", "moderation", "No.")
    assert OpenAIVideos().content(JOB, TARGET)[1].path == "/v1beta/videos/models/m/operations/1/content"


def test_the_shipped_prices_are_by_the_second_and_the_resolution() -> None:
    book, now = PriceBook.load(), SystemClock().wall()
    for model, unit, nano in (
        ("grok-imagine-video", "second:720p", 70_000_000),
        ("grok-imagine-video-1.5", "second:1080p", 250_000_000),
        ("veo-3.1-generate-preview", "second:720p", 400_000_000),
        ("veo-3.1-generate-preview", "second:4k", 600_000_000),
        ("veo-3.1-fast-generate-preview", "second:720p", 100_000_000),
        ("veo-3.1-fast-generate-preview", "second:1080p", 120_000_000),
        ("veo-3.1-lite-generate-preview", "second:1080p", 80_000_000),
    ):
        row = book.find("x-ai" if model.startswith("grok") else "google", model, now)
        assert row is not None
        assert covers(((unit, 1),), row.prices)
        assert cost(Usage(more=((unit, 8),)), row.prices) == 8 * nano


def pictures(data: bytes) -> list[bytes]:
    """Read a GIF as its standard says, and return the pixels of its images."""
    assert data[:6] == b"GIF89a"
    width, height = unpack("<HH", data[6:10])
    at, found = 13 + 3 * (2 << (data[10] & 7)), []
    while data[at] != 0x3B:
        if data[at] == 0x21:
            at += 2
            while data[at]:
                at += data[at] + 1
            at += 1
            continue
        assert data[at] == 0x2C
        bits, at, packed = data[at + 10], at + 11, b""
        while data[at]:
            packed += data[at + 1 : at + 1 + data[at]]
            at += data[at] + 1
        at += 1
        found.append(unpacked(packed, bits))
        assert len(found[-1]) == width * height
    assert at == len(data) - 1
    return found


def unpacked(packed: bytes, bits: int) -> bytes:
    stream, clear = int.from_bytes(packed, "little"), 1 << bits
    out, size, table, last = b"", bits + 1, {}, b""
    while True:
        code, stream = stream & ((1 << size) - 1), stream >> size
        if code == clear:
            table, size, last = (
                {n: bytes([n]) for n in range(clear)} | {clear: b"", clear + 1: b""},
                bits + 1,
                b"",
            )
            continue
        if code == clear + 1:
            return out
        entry = table[code] if code in table else last + last[:1]
        out += entry
        if last and len(table) < 4096:
            table[len(table)] = last + entry[:1]
            if len(table) == 1 << size and size < 12:
                size += 1
        last = entry


@pytest.mark.parametrize(("seconds", "size"), [(1, (720, 1280)), (8, (3840, 2160))])
def test_the_simulators_film_is_a_gif_that_moves(seconds: int, size: tuple[int, int]) -> None:
    images = pictures(film(seconds, *size))
    assert len(images) == 2 * seconds
    assert len(set(images)) == len(images)
