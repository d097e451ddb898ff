"""Files of Avro: as fastavro 1.13.1 wrote them, in any pieces, and what is none."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
from tests.avro import SYNC, number, text, written

from headgate.wire.avro import AvroError, AvroFile

HERE = Path(__file__).parent
MOST = 1 << 20
LEAF = {
    "vectors": [],
    "why": "MAX_TOKENS",
    "meta": {},
    "key": "YWI=",
    "raw": "",
    "next": None,
    "deep": "COMPLETE",
}
ROWS = [
    {
        "custom_id": "1",
        "error": None,
        "body": {
            "vectors": [[0.5, -1.0], [2.0]], "why": "COMPLETE", "meta": {"n": -3, "x": 0.25, "y": None, "z": True},
            "key": "aGk=", "raw": "AP8=", "next": LEAF, "deep": None,
        },
    },
    {"custom_id": "2 é", "error": "broke", "body": None},
]  # fmt: skip
LONG = {"type": "record", "name": "r", "fields": [{"name": "n", "type": "long"}]}


def read(data: bytes, size: int = MOST, most: int = MOST) -> list[object]:
    file, found = AvroFile(most), []
    for at in range(0, len(data), size):
        found += map(json.loads, file.feed(data[at : at + size]))
    file.finish()
    return found


def head(schema: object, codec: bytes = b"null") -> bytes:
    meta = {b"avro.schema": json.dumps(schema).encode(), b"avro.codec": codec}
    pairs = b"".join(text(name) + text(value) for name, value in meta.items())
    return b"Obj\x01" + number(len(meta)) + pairs + b"\0" + SYNC


def block(count: int, data: bytes) -> bytes:
    return number(count) + text(data) + SYNC


@pytest.mark.parametrize("size", [1, 3, 64, MOST])
@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_what_another_has_written_is_read_in_any_pieces(codec, size):
    assert read((HERE / f"fastavro-{codec}.avro").read_bytes(), size) == ROWS


@pytest.mark.parametrize("value", [0, 1, -1, 63, -64, 64, 2**31, -(2**31), 2**63 - 1, -(2**63)])
def test_numbers(value):
    assert read(written(LONG, [{"n": value}])) == [{"n": value}]


def test_an_array_may_say_its_size_in_bytes():
    data = number(-2) + number(2) + number(7) + number(8) + number(1) + number(9) + b"\0"
    assert read(head({"type": "array", "items": "long"}) + block(1, data)) == [[7, 8, 9]]


def test_a_file_without_a_block_has_no_records():
    assert read(head("long")) == []
    assert read(head("long", b"")) == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{}", "no file of Avro"),
        (b"Obj\x01", "ends too early"),
        (head("long") + b"\x02", "ends too early"),
        (head("long") + block(1, number(7))[:-1], "ends too early"),
        (head("long") + number(1) + text(number(7)) + bytes(16), "out of step"),
        (head("long") + block(2, number(7)), "says how many"),
        (head("long") + block(2, b"\x02\x80"), "ends too early"),
        (head("long") + block(1, b"\x02\x02"), "more than its records"),
        (head("long") + block(1, b"\xff" * 11), "has no end"),
        (head("long") + block(-1, b"\x02"), "says how many"),
        (head("long", b"snappy") + block(1, b"\x02"), "packed with 'snappy'"),
        (head("long", b"deflate") + block(1, b"\xff\xff"), "cannot be unpacked"),
        (head("long", b"deflate") + block(1, zlib.compress(bytes(2 * MOST))[2:-4]), "too large"),
        (head("long") + number(1) + number(2 * MOST), "too large"),
        (head("string") + block(1, text(b"\xff")), "not UTF-8"),
        (head({"type": "array", "items": "null"}) + block(1, number(1 << 60) + b"\0"), "ends too early"),
        (head(["null"]) + block(1, number(1)), "of no kind"),
        (head({"type": "enum", "name": "e", "symbols": ["A"]}) + block(1, number(1)), "none of its kind"),
        (head({"type": "map", "values": "Absent"}), "does not have"),
        (head({"type": "record", "name": "r"}), "no fields"),
        (head({"type": "fixed", "name": "f"}), "has none"),
        (head(7), "is none"),
        (head(json.loads('{"type":' * 70 + '"long"' + "}" * 70)), "too deep"),
    ],
)
def test_what_is_none_is_said_to_be_none(data, why):
    with pytest.raises(AvroError, match=why):
        read(data)


def test_records_that_hold_themselves_without_end_are_refused():
    own = {"type": "record", "name": "r", "fields": [{"name": "r", "type": ["null", "r"]}]}
    with pytest.raises(AvroError, match="too deep"):
        read(head(own) + block(1, number(1) * 100_000 + number(0)))


# ── what would take more memory than it is long ─────────────────────────────────────────────────

NOTHING = {"type": "record", "name": "n", "fields": []}


def folded(depth: int) -> object:
    """Return a record that has itself twice in itself, and so on, without a byte."""
    made: object = NOTHING
    for n in range(depth):
        fields = [{"name": "a", "type": made}, {"name": "b", "type": f"r{n - 1}" if n else "n"}]
        made = {"type": "record", "name": f"r{n}", "fields": fields}
    return made


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        ({"type": "array", "items": "null"}, number(1 << 19) * 8 + bytes(1 << 19)),
        ({"type": "array", "items": NOTHING}, number(1 << 19) * 8 + bytes(1 << 19)),
        ({"type": "array", "items": {"type": "fixed", "name": "f", "size": 0}}, number(1 << 19) * 8 + bytes(1 << 19)),
        (folded(22), b"\0"),
    ],
)  # fmt: skip
def test_values_that_take_no_bytes_are_bounded(schema, data):
    with pytest.raises(AvroError, match="too many values"):
        read(head(schema, b"deflate") + block(1, zlib.compress(data)[2:-4]))


def test_each_record_may_have_as_many_values():
    data = (number(1 << 20) + bytes(1 << 20) + b"\0") * 3
    found = read(head({"type": "array", "items": "int"}) + block(3, data), most=1 << 22)
    assert [len(each) for each in found] == [1 << 20] * 3


def test_a_block_of_less_than_nothing_is_not_waited_for():
    file = AvroFile(1_000)
    with pytest.raises(AvroError, match="less than nothing"):
        list(file.feed(head("string") + number(1) + number(-5)))


def test_a_block_may_be_as_large_as_may_be():
    data = text(b"x" * 98)
    packed = zlib.compress(data)[2:-4]
    assert read(head("string", b"deflate") + block(1, packed), most=len(data)) == ["x" * 98]
    with pytest.raises(AvroError, match="too large"):
        read(head("string", b"deflate") + block(1, packed), most=len(data) - 1)


def test_a_head_without_an_end_is_refused():
    file, given = AvroFile(1 << 30), 0

    def feed() -> None:
        nonlocal given
        for data in [b"Obj\x01" + number(1) + number(1 << 29)] + [bytes(1 << 16)] * 64:
            given += len(data)
            assert not list(file.feed(data))

    with pytest.raises(AvroError, match="too large"):
        feed()
    assert given <= 1 << 21
