"""Where requests name files of ours, and what stands there when their bytes are put in place."""

from __future__ import annotations

import json

import msgspec
import pytest

from headgate.errors import CallerError
from headgate.http.parse import parse
from headgate.shelf import FileLabel
from headgate.values import Call, Media, Operation
from headgate.wire.references import LONGEST_URL, MOST_NAMED, Named, is_ours, kind_of, picture_kind

OURS = "file-" + "0a" * 12
MADE = "file-" + "0b" * 16
THEIRS = "file-6F2ksmvXxt4VdoqmHRw6kL"
PNG = b"\x89PNG\r\n\x1a\n...."


def parsed(operation: Operation, **body: object) -> Call:
    call = Call(bytes(16), operation, 0)
    parse(json.dumps(body).encode(), call)
    return call


def chat(*files: object, **more: object) -> Call:
    parts = [{"type": "text", "text": "read"}, *({"type": "file", "file": each} for each in files)]
    return parsed("chat", model="m", messages=[{"role": "user", "content": parts, **more}])


def edit(images: object, **more: object) -> Call:
    return parsed("image_edits", model="m", prompt="p", images=images, **more)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (OURS, True),
        (MADE, True),
        (THEIRS, False),
        (OURS + "\n", False),
        ("file-" + "0A" * 12, False),
        (7, False),
    ],
)
def test_a_name_is_ours_by_its_form(name, ours):
    assert is_ours(name) is ours


def test_a_chat_that_names_none_is_not_looked_at_again():
    assert chat({"file_id": THEIRS}).media == Media(hidden=1, files=1)
    assert chat({"file_data": "data:,x", "file_id": OURS}).media == Media(hidden=1, files=1)
    assert parsed("chat", model="m", messages=[{"role": "user", "content": OURS}]).media is None


def test_files_stand_in_a_chat_as_if_they_had_been_brought():
    call = chat({"file_id": OURS}, {"file_id": THEIRS}, {"file_id": MADE, "filename": "own.pdf"}, odd=1.50)
    assert call.media == Media(hidden=3, files=3, stored=True)
    named = Named(call)
    assert [(place.name, place.param) for place in named.places] == [
        (OURS, "messages[0].content[1].file.file_id"),
        (MADE, "messages[0].content[3].file.file_id"),
    ]
    for place in named.places:
        place.put("the.mark", "kept.pdf")
    raw = named.written({"the.mark": [b"data:application/pdf;base64,", b"QQ", b"=="]})["messages"]
    brought = "data:application/pdf;base64,QQ=="
    assert json.loads(bytes(raw)) == [
        {
            "role": "user",
            "odd": 1.5,
            "content": [
                {"type": "text", "text": "read"},
                {"type": "file", "file": {"filename": "kept.pdf", "file_data": brought}},
                {"type": "file", "file": {"file_id": THEIRS}},
                {"type": "file", "file": {"filename": "own.pdf", "file_data": brought}},
            ],
        }
    ]


def test_a_file_counts_as_much_as_one_that_was_brought():
    named, brought = chat({"file_id": OURS}), chat({"filename": "a.pdf", "file_data": "data:,QQ"})
    assert named.media is not None
    assert msgspec.structs.replace(named.media, stored=False) == brought.media


def test_images_of_an_edit_are_named_or_addressed():
    call = edit([{"file_id": OURS}, {"image_url": "https://x/y.png"}], mask={"file_id": MADE})
    assert call.media == Media(images=3, stored=True)
    named = Named(call)
    assert [(place.name, place.param, place.picture) for place in named.places] == [
        (OURS, "images[0].file_id", True),
        (MADE, "mask.file_id", True),
    ]
    for place in named.places:
        place.put("mark", "x.png")
    urls = {"mark": [b"data:image/png;base64,QQ=="]}
    written = {name: json.loads(bytes(raw)) for name, raw in named.written(urls).items()}
    here = {"image_url": "data:image/png;base64,QQ=="}
    assert written == {"images": [here, {"image_url": "https://x/y.png"}], "mask": here}


@pytest.mark.parametrize(
    ("images", "code", "param"),
    [
        ([], "empty_array", "images"),
        ([{"image_url": "https://x"}] * 17, "array_above_max_length", "images"),
        ({"image_url": "https://x"}, "invalid_type", "images"),
        (["https://x"], "invalid_type", "images[0]"),
        ([{}], "missing_required_parameter", "images[0].image_url"),
        ([{"image_url": "https://x", "file_id": OURS}], "mutually_exclusive_parameters", "images[0]"),
        ([{"image_url": "https://x", "detail": "low"}], "unknown_parameter", "images[0].detail"),
        ([{"file_id": 7}], "invalid_type", "images[0].file_id"),
        ([{"image_url": "x" * (LONGEST_URL + 1)}], "string_above_max_length", "images[0].image_url"),
        (None, "missing_required_parameter", "images"),
    ],
)
def test_what_is_wrong_with_references_is_said(images, code, param):
    with pytest.raises(CallerError) as caught:
        edit(images)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_a_mask_is_a_reference_too():
    with pytest.raises(CallerError, match=r"mask\.image_url"):
        edit([{"file_id": OURS}], mask={})


def test_a_request_names_only_so_many():
    with pytest.raises(CallerError, match="at most 50"):
        Named(chat(*[{"file_id": OURS}] * (MOST_NAMED + 1)))


def test_of_which_kind_a_file_is_its_bytes_say_first():
    assert kind_of(b"%PDF-1.7", FileLabel("user_data", "a.txt", "text/plain")) == "application/pdf"
    assert kind_of(b"hello", FileLabel("user_data", "a.txt", "text/plain")) == "text/plain"
    assert kind_of(b"hello", FileLabel("user_data", "a", '";evil')) == "application/octet-stream"
    assert picture_kind(PNG, "p") == "image/png"
    assert picture_kind(b"\xff\xd8\xff\xe0", "p") == "image/jpeg"
    assert picture_kind(b"RIFF\0\0\0\0WEBPVP8 ", "p") == "image/webp"
    with pytest.raises(CallerError) as caught:
        picture_kind(b"RIFF\0\0\0\0WAVEfmt ", "p")
    assert caught.value.code == "invalid_image_file"
