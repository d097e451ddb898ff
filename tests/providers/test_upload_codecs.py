"""Forms with files: what is taken of them, what is sent, what comes back and what it costs."""

import io
import wave
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.providers.asking import read, target

from headgate.admission.bounds import bound, units_bound
from headgate.errors import CallerError, MediaTypeRefused, UpstreamInterrupted
from headgate.http.parse import parse
from headgate.money.cost import cost
from headgate.providers.registry import CODECS
from headgate.values import Call, Prices, Target, Usage
from headgate.wire.forms import Part, parts_of, written
from headgate.wire.sound import length_of, likely_of, longest_of
from headgate.wire.uploads import take_form

TYPE = b"multipart/form-data; boundary=XYZ"
BY_SECOND = Prices(more=(("second", 100_000_000),))
BY_TOKENS = Prices(2_500_000, 10_000_000, 2_500_000, 2_500_000, 10_000_000, 6_000_000, 10_000_000)


def wav(seconds: float = 1.5) -> bytes:
    held = io.BytesIO()
    with wave.open(held, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8_000)
        sound.writeframes(bytes(2 * int(8_000 * seconds)))
    return held.getvalue()


SOUND = Part("file", wav(), "talk.wav", "audio/wav")
PICTURE = Part("image", b"\x89PNG\r\n\x1a\n--XYZ-not-a-boundary", 'a"b.png', "image/png")


def asked(operation: Any, *files: Part, **fields: str | list[str]) -> Call:
    made = Call(bytes(range(16)), operation, 0)
    parts = list(files)
    for name, value in fields.items():
        rows = value if isinstance(value, list) else [value]
        suffix = "[]" if isinstance(value, list) else ""
        parts += [Part(name + suffix, row.encode()) for row in rows]
    body = take_form(TYPE, b"".join(written(parts, "XYZ")), made)
    assert body is not None
    parse(body, made)
    return made


def at(prices: Prices | None = BY_SECOND) -> Target:
    made = msgspec.structs.replace(
        target("openai", "whisper-large"), prices=prices, by_unit=bool(prices and prices.more)
    )
    return msgspec.structs.replace(made, headers=(("content-type", "application/json"), ("a", "b")))


def sent(call: Call, to: Target) -> list[Part]:
    request = CODECS["openai"][call.operation].encode(call, to)
    headers = dict(request.headers)
    assert headers["a"] == "b"
    return parts_of(headers["content-type"].encode(), request.body)


def got(call: Call, to: Target, body: bytes) -> tuple[bytes, Usage | None]:
    codec = CODECS["openai"][call.operation]
    first = read(codec, call, to, [body])
    assert read(codec, call, to, [body[at : at + 1] for at in range(len(body))]) == first
    return first


def test_files_pass_as_they_came_and_fields_are_written_anew():
    call = asked(
        "transcriptions", SOUND, model="mine", temperature="0.5", language="en", stream="true",
        timestamp_granularities=["word", "segment"],
    )  # fmt: skip
    assert (call.model, call.stream) == ("mine", True)
    assert sent(call, at()) == [
        Part("model", b"whisper-large"), Part("temperature", b"0.5"), Part("language", b"en"), Part("stream", b"true"),
        Part("timestamp_granularities[]", b"word"), Part("timestamp_granularities[]", b"segment"), SOUND,
    ]  # fmt: skip
    request = CODECS["openai"]["transcriptions"].encode(call, at())
    assert request.path == "/v1/audio/transcriptions"
    assert b"XYZ" not in request.body, "the boundary is ours"


def test_what_is_in_a_file_is_never_a_field():
    trick = Part(
        "file",
        b'RIFF\n--XYZ\nContent-Disposition: form-data; name="model"\n\ndear',
        "a.wav",
        "audio/wav\r\nx: y",
    )
    call = asked("translations", trick, model="cheap")
    assert call.model == "cheap"
    *_, file = sent(call, at())
    assert (file.data, file.kind) == (trick.data, "application/octet-stream") or file.kind == "audio/wav"


def test_images_come_several_with_a_mask():
    mask = Part("mask", b"\x89PNG", "m.png", "image/png")
    second = PICTURE._replace(name="image[]", filename="b.png")
    call = asked("image_edits", PICTURE, second, mask, prompt="blue", n="2", size="1024x1024", quality="low")
    assert (call.n, call.model) == (2, "gpt-image-1")
    prices = Prices(5, 40, 5, 5, 40, more=(("input_image", 5),))
    assert units_bound(call, at(prices)) == (("input_image", 150_000),)
    assert [part.filename for part in sent(call, at()) if part.filename] == ["a%22b.png", "b.png", "m.png"]
    by_json = Call(bytes(16), "image_edits", 0)
    assert take_form(b"application/json", b"{}", by_json) is None


def test_seconds_are_paid_as_the_answer_says_within_the_hold():
    call = asked("transcriptions", SOUND, model="whisper-1")
    body = b'{"text":"Hi","usage":{"type":"duration","seconds":2}}'
    assert got(call, at(), body) == (body, Usage(more=(("second", 2),)))
    assert cost(Usage(more=(("second", 2),)), BY_SECOND) <= bound(call, (at(),)) == 300_000
    assert got(call, at(), b'{"text":"Hi","duration":1.5}')[1] == Usage(more=(("second", 2),))
    assert got(call, at(), b'{"text":"Hi"}')[1] == Usage(more=(("second", 2),)), "the file says it"
    unsaid = asked("transcriptions", SOUND._replace(data=bytes(9_000)), model="whisper-1")
    assert got(unsaid, at(), b'{"text":"Hi"}')[1] is None, "then it is an estimate"


def test_tokens_are_paid_as_the_answer_says():
    call = asked("transcriptions", SOUND, model="gpt-4o-transcribe")
    usage = {
        "type": "tokens", "input_tokens": 30, "output_tokens": 7, "total_tokens": 37,
        "input_token_details": {"text_tokens": 2, "audio_tokens": 28},
    }  # fmt: skip
    body = msgspec.json.encode({"text": "Hi", "usage": usage})
    found = got(call, at(BY_TOKENS), body)[1]
    assert found == Usage(30, 7, input_audio_tokens=28)
    assert cost(found, BY_TOKENS) < bound(call, (at(BY_TOKENS),))


def test_text_is_asked_for_as_json_and_subtitles_say_how_long_it_was():
    call = asked("transcriptions", SOUND, model="whisper-1", response_format="text")
    assert Part("response_format", b"json") in sent(call, at())
    out = got(call, at(), '{"text":"Hi 世界","usage":{"type":"duration","seconds":2}}'.encode())
    assert out == ("Hi 世界\n".encode(), Usage(more=(("second", 2),)))
    mp3 = SOUND._replace(data=b"\xff\xf3\x84\xc4" + bytes(8_000), filename="a.mp3")
    srt = b"1\n00:00:00,000 --> 00:01:03,200\nHi\n\n"
    subtitled = asked("transcriptions", mp3, model="whisper-1", response_format="srt")
    assert got(subtitled, at(), srt) == (srt, Usage(more=(("second", 64),)))
    with pytest.raises(UpstreamInterrupted):
        got(call, at(), b'{"segments":[]}')


@pytest.mark.parametrize(
    ("operation", "files", "fields", "param"),
    [
        ("transcriptions", [], {"model": "m"}, "file"),
        ("transcriptions", [SOUND], {}, "model"),
        ("transcriptions", [SOUND, SOUND], {"model": "m"}, "file"),
        ("transcriptions", [SOUND._replace(name="sound"), SOUND], {"model": "m"}, "sound"),
        ("transcriptions", [SOUND], {"model": "m", "temperature": "hot"}, "temperature"),
        ("transcriptions", [SOUND], {"model": "m", "stream": "maybe"}, "stream"),
        ("translations", [SOUND], {"model": "m", "response_format": "diarized_json"}, "response_format"),
        ("image_edits", [PICTURE], {}, "prompt"),
        ("image_edits", [PICTURE], {"prompt": "x", "n": "two"}, "n"),
        ("image_variations", [], {}, "image"),
    ],
)
def test_a_wrong_form_is_refused_where_it_is_wrong(
    operation: Any, files: list[Part], fields: dict[str, str], param: str
):
    with pytest.raises(CallerError) as caught:
        asked(operation, *files, **fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--XYZ--",
        b"--XYZ\r\n\r\nx\r\n--XYZ--",
        b'--XYZ\r\nContent-Disposition: form-data; name="a"\r\n\r\nx',
    ],
)
def test_what_is_no_form_is_refused(body: bytes):
    with pytest.raises(CallerError):
        take_form(TYPE, body, Call(bytes(16), "transcriptions", 0))
    with pytest.raises(MediaTypeRefused):
        take_form(b"application/json", body, Call(bytes(16), "transcriptions", 0))


def test_a_sound_says_how_long_it_is():
    assert length_of(wav(2.5)) == 2.5
    flac = (
        b"fLaC\0\0\0\x22"
        + bytes(10)
        + ((16_000 << 44) | (1 << 41) | (15 << 36) | 48_000).to_bytes(8)
        + bytes(16)
    )
    assert length_of(flac) == 3.0
    mp3 = (b"\xff\xf3\x84\xc4" + bytes(188)) * 100  # 64 kbit/s
    assert length_of(mp3) is None
    assert likely_of(mp3) == pytest.approx(2.4)
    assert longest_of(mp3) == 19.2
    assert longest_of(b"OggS" + bytes(996)) == 4.0
    for damaged in (b"", b"RIFF", wav()[:30], b"fLaC", b"ID3", b"\xff\xfb"):
        assert longest_of(damaged) >= 0
        assert likely_of(damaged) >= 0


@pytest.mark.parametrize("before", [b"", b"\r\n", b"a preamble\r\n"])
def test_a_form_reads_the_same_in_a_file(before: bytes, tmp_path: Path) -> None:
    parts = [
        PICTURE,
        Part("prompt", b"a --XYZ in it\r\n-- "),
        SOUND,
        Part("empty", b"", "none.png", "image/png"),
    ]
    body = before + b"".join(written(parts, "XYZ")) + b"an epilogue"
    (tmp_path / "form").write_bytes(body)
    with (tmp_path / "form").open("rb") as file:
        mapped = mmap(file.fileno(), 0, access=ACCESS_READ)  # the views of it let it go
        found = parts_of(TYPE, mapped)
        assert [part._replace(data=bytes(part.data)) for part in found] == parts_of(TYPE, body)
        assert [bytes(part.data) for part in found] == [part.data for part in parts]
        assert [isinstance(part.data, memoryview) for part in found] == [True, False, True, True]
        again = written(found, "XYZ")
        assert b"".join(again) == b"".join(written(parts, "XYZ"))
        assert [piece for piece in again if isinstance(piece, memoryview)] == [
            p.data for p in found if p.filename
        ]
