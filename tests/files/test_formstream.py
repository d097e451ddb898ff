"""Forms as they come: cut at every byte they are read as the whole is."""

from __future__ import annotations

import pytest

from headgate.errors import CallerError
from headgate.wire.forms import Part, parts_of, written
from headgate.wire.formstream import FilePart, FormStream

KIND = b"multipart/form-data; boundary=xYz"
BODY = b"".join(
    written(
        [
            Part("purpose", b"batch"),
            Part("file", b"a\r\n--xYa\r\n\r\n--xY" + bytes(range(256)), "a b.jsonl", "application/jsonl"),
            Part("expires_after[seconds]", b""),
        ],
        "xYz",
    )
)


def read(pieces: list[bytes], kind: bytes = KIND) -> tuple[dict[str, str], list[FilePart], bytes]:
    files: list[FilePart] = []
    data: list[bytes] = []
    form = FormStream(kind, files.append, data.append)
    for piece in pieces:
        form.feed(piece)
    form.finish()
    return form.fields, files, b"".join(data)


def whole() -> tuple[dict[str, str], list[FilePart], bytes]:
    parts = parts_of(KIND, BODY)
    return (
        {part.name: part.text() for part in parts if not part.filename},
        [FilePart(part.name, part.filename, part.kind) for part in parts if part.filename],
        b"".join(bytes(part.data) for part in parts if part.filename),
    )


def test_cut_anywhere_it_is_read_as_the_whole_is() -> None:
    expected = whole()
    assert expected[1] == [FilePart("file", "a b.jsonl", "application/jsonl")]
    assert read([BODY]) == expected
    assert read([BODY[at : at + 1] for at in range(len(BODY))]) == expected
    for at in range(len(BODY)):
        assert read([BODY[:at], BODY[at:]]) == expected


def test_what_stands_before_and_behind_means_nothing() -> None:
    assert read([b"hello\r\n", BODY, b"\r\nbye", b"x" * 99_999]) == whole()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (BODY[:-4], "closing boundary"),
        (b"nothing", "closing boundary"),
        (b"--xYz\r\nX-Y: 1\r\n\r\nv\r\n--xYz--", "no name"),
        (b"--xYzX-Y: 1\r\n\r\nv\r\n--xYz--", "no head"),
        (b"--xYz\r\n" + b"a" * 9_000, "more than 8192 bytes"),
        (b'--xYz\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"a" * 300_000, "too long"),
        (b'--xYz\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 101, "more than 100 parts"),
    ],
)
def test_what_is_no_form_is_refused_and_little_of_it_is_held(body: bytes, said: str) -> None:
    with pytest.raises(CallerError, match=said):
        read([body])
    with pytest.raises(CallerError, match=said):
        read([body[at : at + 7] for at in range(0, len(body), 7)])


def test_without_a_boundary_there_is_no_form() -> None:
    with pytest.raises(CallerError, match="no boundary"):
        read([BODY], b"multipart/form-data")
