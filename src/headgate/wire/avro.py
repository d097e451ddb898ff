"""Avro's files of records, read as they come: each record as JSON. No I/O.

Source: Apache Avro's specification 1.12, "Object Container Files" and "Binary encoding". Blocks may be packed
with `deflate` or not at all: those two every writer must have.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_MAGIC: Final = b"Obj\x01"
_SYNC: Final = 16  # bytes between blocks
_DEEPEST: Final = 64
_LONGEST_HEAD: Final = 1 << 20  # bytes: it is read anew with each piece until it is whole
_MOST_VALUES: Final = 1 << 21  # of one record: some take no byte of a file, and a lot of memory
_NUMBERS: Final = {"float": ("<f", 4), "double": ("<d", 8)}
_META: Final = {"type": "map", "values": "bytes"}
_encode = msgspec.json.encode


class AvroError(ValueError):
    """What was read is no Avro, or none that is known here."""


class _Short(AvroError):
    """There is less of it than it says."""


class _Bytes:
    """A place in some bytes."""

    __slots__ = ("at", "data", "values")

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data
        self.at = 0
        self.values = 0  # of the record that is read

    @property
    def left(self) -> int:
        """Return how many bytes are left."""
        return len(self.data) - self.at

    def take(self, count: int) -> bytes:
        """Return the next bytes. Raises `AvroError`: there are not so many."""
        if not 0 <= count <= self.left:
            raise _Short("it ends too early")
        self.at += count
        return bytes(self.data[self.at - count : self.at])

    def count(self, values: int) -> None:
        """Count values of a record that are read next. Raises `AvroError`: they are too many."""
        self.values += values
        if self.values > _MOST_VALUES:
            raise AvroError("a record has too many values")

    def number(self) -> int:
        """Return the next number. Raises `AvroError`: there is none."""
        value = shift = 0
        while shift < 70:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
        raise AvroError("a number has no end")

    def text(self) -> str:
        """Return the next text. Raises `AvroError`: it is none."""
        try:
            return self.take(self.number()).decode()
        except UnicodeDecodeError as fault:
            raise AvroError("a text is not UTF-8") from fault


_Reader: TypeAlias = "Callable[[_Bytes], Any]"


def _boolean(given: _Bytes) -> bool:
    return given.take(1) != b"\0"


def _octets(given: _Bytes) -> bytes:
    return given.take(given.number())


_PLAIN: Final[Mapping[str, _Reader]] = {
    "null": lambda _: None,
    "boolean": _boolean,
    "int": _Bytes.number,
    "long": _Bytes.number,
    "float": lambda given: struct.unpack("<f", given.take(4))[0],
    "double": lambda given: struct.unpack("<d", given.take(8))[0],
    "bytes": _octets,
    "string": _Bytes.text,
}


class _Schema:
    """Makes readers of what a schema says."""

    def __init__(self) -> None:
        self._named: dict[str, _Reader] = {}

    def reader(self, said: Any, space: str = "", depth: int = 0) -> _Reader:
        """Return what reads values of a schema. Raises `AvroError`: it is none."""
        if depth > _DEEPEST:
            raise AvroError("its schema is too deep")
        if isinstance(said, str):
            return self._known(said, space)
        if isinstance(said, list):
            return _union([self.reader(each, space, depth + 1) for each in said])
        if not isinstance(said, dict):
            raise AvroError("its schema is none")
        return self._composed(said, space, depth)

    def _known(self, name: str, space: str) -> _Reader:
        if name in _PLAIN:
            return _PLAIN[name]
        full = _full(name, space)
        if full not in self._named and name not in self._named:
            raise AvroError(f"its schema names {name[:100]!r}, which it does not have")
        found = full if full in self._named else name
        return self._named[found]

    def _composed(self, said: dict[str, Any], space: str, depth: int) -> _Reader:
        kind = said.get("type")
        match kind:
            case "record" | "error":
                return self._record(said, space, depth)
            case "enum":
                return self._keep(said, space, _enum(_texts(said.get("symbols"))))
            case "fixed":
                size = said.get("size")
                if not isinstance(size, int):
                    raise AvroError("something of a fixed size has none")
                return self._keep(said, space, lambda given: given.take(size))
            case "array":
                items = said.get("items")
                packed = _NUMBERS.get(items) if isinstance(items, str) else None
                return _numbers(*packed) if packed else _array(self.reader(items, space, depth + 1))
            case "map":
                return _map(self.reader(said.get("values"), space, depth + 1))
        return self.reader(kind, space, depth + 1)

    def _record(self, said: dict[str, Any], space: str, depth: int) -> _Reader:
        fields = said.get("fields")
        if not isinstance(fields, list):
            raise AvroError("a record has no fields")
        readers: list[tuple[str, _Reader]] = []

        def read(given: _Bytes) -> dict[str, Any]:
            given.count(len(readers))
            return {name: reader(given) for name, reader in readers}

        own = self._keep(said, space, read)
        inner = _full(str(said.get("name")), str(said.get("namespace") or space)).rpartition(".")[0]
        for field in fields:
            if not isinstance(field, dict):
                raise AvroError("a field is none")
            readers.append((str(field.get("name")), self.reader(field.get("type"), inner, depth + 1)))
        return own

    def _keep(self, said: dict[str, Any], space: str, reader: _Reader) -> _Reader:
        self._named[_full(str(said.get("name")), str(said.get("namespace") or space))] = reader
        return reader


def _full(name: str, space: str) -> str:
    return name if "." in name or not space else f"{space}.{name}"


def _texts(said: Any) -> list[str]:
    return [each for each in said if isinstance(each, str)] if isinstance(said, list) else []


def _enum(symbols: list[str]) -> _Reader:
    def read(given: _Bytes) -> str:
        at = given.number()
        if not 0 <= at < len(symbols):
            raise AvroError("a value is none of its kind")
        return symbols[at]

    return read


def _union(branches: list[_Reader]) -> _Reader:
    def read(given: _Bytes) -> Any:
        at = given.number()
        if not 0 <= at < len(branches):
            raise AvroError("a value is of no kind that it may have")
        return branches[at](given)

    return read


def _counts(given: _Bytes) -> Iterator[int]:
    """Yield how many items the blocks of an array or a map have."""
    while count := given.number():
        if count < 0:
            given.number()  # its size
        if abs(count) > given.left:  # each has a byte or more, so that nobody counts for ever
            raise _Short("it ends too early")
        given.count(abs(count))
        yield abs(count)


def _array(item: _Reader) -> _Reader:
    return lambda given: [item(given) for count in _counts(given) for _ in range(count)]


def _numbers(form: str, size: int) -> _Reader:
    def read(given: _Bytes) -> list[float]:
        found: list[float] = []
        for count in _counts(given):
            found += struct.unpack(f"<{count}{form[1]}", given.take(count * size))
        return found

    return read


def _map(value: _Reader) -> _Reader:
    return lambda given: {given.text(): value(given) for count in _counts(given) for _ in range(count)}


class AvroFile:
    """Reads one file.

    Args:
        most: bytes of one block, packed or not.
    """

    __slots__ = ("_deflated", "_most", "_read", "_rest", "_sync")

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = bytearray()
        self._sync = b""
        self._deflated = False
        self._read: _Reader | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the records that are whole by now, as JSON. Raises `AvroError`."""
        self._rest += data
        if self._read is None and not self._begun():
            return
        while (block := self._block()) is not None:
            yield from block

    def finish(self) -> None:
        """Take note that there is no more. Raises `AvroError`: something is missing."""
        if self._read is None or self._rest:
            raise AvroError("it ends too early")

    def _begun(self) -> bool:
        """Read the head, once it is there."""
        if not _MAGIC.startswith(bytes(self._rest[: len(_MAGIC)])):
            raise AvroError("it is no file of Avro")
        given = _Bytes(self._rest)
        try:
            given.take(len(_MAGIC))
            meta = _Schema().reader(_META)(given)
            self._sync = given.take(_SYNC)
        except _Short:
            self._bounded(len(self._rest), min(self._most, _LONGEST_HEAD))
            return False
        codec = meta.get("avro.codec", b"null")
        if codec not in {b"null", b"deflate", b""}:
            raise AvroError(f"it is packed with {codec.decode('ascii', 'replace')[:20]!r}")
        self._deflated = codec == b"deflate"
        try:
            self._read = _Schema().reader(msgspec.json.decode(meta.get("avro.schema", b"")))
        except (msgspec.DecodeError, RecursionError) as fault:
            raise AvroError("its schema is no JSON") from fault
        del self._rest[: given.at]
        return True

    @staticmethod
    def _bounded(size: int, most: int) -> None:
        if size > most:
            raise AvroError("a block is too large")

    def _block(self) -> Iterator[bytes] | None:
        """Return what reads the next block; None: it is not whole yet."""
        given = _Bytes(self._rest)
        try:
            count, size = given.number(), given.number()
            if size < 0:
                raise AvroError("a block has less than nothing in it")
            self._bounded(size, self._most)
            data, sync = given.take(size), given.take(_SYNC)
        except _Short:
            return None
        if sync != self._sync:
            raise AvroError("its blocks are out of step")
        del self._rest[: given.at]
        return self._records(count, self._unpacked(data))

    def _unpacked(self, data: bytes) -> bytes:
        if not self._deflated:
            return data
        unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            found = unpacking.decompress(data, self._most)
        except zlib.error as fault:
            raise AvroError("a block cannot be unpacked") from fault
        if not unpacking.eof:
            raise AvroError("a block is too large, or not whole")
        return found

    def _records(self, count: int, data: bytes) -> Iterator[bytes]:
        given, read = _Bytes(data), self._read
        assert read is not None
        if not 0 <= count <= len(data):
            raise AvroError("a block says how many records it has, and has fewer")
        for _ in range(count):
            given.values = 0
            try:
                yield _encode(read(given))
            except RecursionError as fault:
                raise AvroError("a record is too deep") from fault
        if given.left:
            raise AvroError("a block has more than its records")
