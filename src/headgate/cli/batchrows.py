"""Rows of a file as the prompts of a batch. What is wrong with one is told with its line and column."""

from __future__ import annotations

import csv
import itertools
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, lookup
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from headgate.cli.exits import Failed, Unusable
from headgate.wire.batches import LONGEST_ID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Protocol

    class Reader(Protocol):
        """A `csv.reader`."""

        line_num: int

        def __next__(self) -> list[str]: ...


_FIELD: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_TEXT: Final = "text"
_ID: Final = ("custom_id", "id")
LONGEST_CELL: Final = 1 << 28  # characters; what is too long for a batch the gateway says
_WIDER: Final = {"gbk": "gb18030", "gb2312": "gb18030", "utf-8": "utf-8-sig"}  # these read all of those
TEMPLATES: Final = {
    "translate": "Translate the text into {{to}}. Answer with the translation alone.\n\n{{{column}}}",
    "classify": "Which of these labels fits best: {{labels}}? Answer with that label alone.\n\n{{{column}}}",
    "extract": "Extract from the text: {{fields}}. What the text does not say is null.\n\n{{{column}}}",
}


class Row(NamedTuple):
    """One row of the input."""

    line: int  # in the file, from 1
    name: str  # the custom_id
    values: dict[str, Any]


class Prompt(NamedTuple):
    """How a row becomes a request."""

    template: str
    model: str
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    fields: tuple[str, ...] = ()  # of the JSON that the answer shall be

    def body(self, row: Row) -> dict[str, Any]:
        """Return the request of a row. Raises `Failed`: it lacks a column."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages.append({"role": "user", "content": filled(self.template, row)})
        body: dict[str, Any] = {"model": self.model, "messages": messages}
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.fields:
            body["response_format"] = _schema(self.fields)
        return body


def filled(template: str, row: Row) -> str:
    """Return a template with a row's values in place of `{column}`; `{{` is a brace.

    Raises:
        Failed: the row has no such column, or nothing in it.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]
        name = found[1].strip()
        given = row.values.get(name)
        if given is None and name in row.values:
            raise Failed(f"Line {row.line}: the column {name!r} is null.", "missing_column")
        if given is None:
            known = ", ".join(row.values) or "none"
            raise Failed(
                f"Line {row.line}: the prompt asks for the column {name!r}, which is not there. Columns of "
                f"this line: {known}.",
                "missing_column",
            )
        return _told(given)

    return _FIELD.sub(value, template)


def _told(given: Any) -> str:
    """Return a value of a row as text: JSON, where it is none."""
    return given if isinstance(given, str) else msgspec.json.encode(given).decode()


class Sheet(NamedTuple):
    """What is in a file of rows."""

    rows: list[Row]
    marked: bool  # it is no plain UTF-8, so a spreadsheet needs a byte order mark to read ours


def read_rows(path: Path, encoding: str | None = None) -> Sheet:
    """Return the rows of a JSONL or CSV file.

    Args:
        path: of the file.
        encoding: of its text; None: UTF-8, or what its byte order mark says.

    Raises:
        Failed: one is wrong; says its line, and the column where that is known.
        Unusable: there is no such encoding.
    """
    codec = ""
    try:
        marked, codec = _codec(path, encoding)
        rows = list((_csv if path.suffix.lower() in {".csv", ".tsv"} else _jsonl)(path, codec))
    except OSError as fault:
        raise Failed(f"Cannot read {path}: {fault.strerror}.") from fault
    except UnicodeError as fault:
        raise Failed(_other_text(path, codec), "bad_encoding") from fault
    if not rows:
        raise Failed(f"{path} has no rows.")
    seen: dict[str, int] = {}
    for row in rows:
        if len(row.name) > LONGEST_ID or "\0" in row.name:
            what = "a NUL" if "\0" in row.name else f"{len(row.name):,} characters. It may have {LONGEST_ID}"
            raise Failed(f"Line {row.line}: the id has {what}.", "bad_id")
        if row.name in seen:
            raise Failed(
                f"Line {row.line}: the id {row.name!r} is that of line {seen[row.name]}.",
                "duplicate_id",
            )
        seen[row.name] = row.line
    return Sheet(rows, marked)


def _codec(path: Path, given: str | None) -> tuple[bool, str]:
    """Return whether a text is other than plain UTF-8, and the name of what reads it."""
    with path.open("rb") as file:
        mark = file.read(3)
    if given is not None:
        try:
            name = lookup(given).name
            b"a".decode(name, "ignore")  # not all of them are of texts
        except LookupError as fault:
            raise Unusable(f"--encoding {given} is not known; gbk, big5, cp1252 and utf-16 are.") from fault
        return name != "utf-8" or mark == BOM_UTF8, _WIDER.get(name, name)
    if mark[:2] in {BOM_UTF16_LE, BOM_UTF16_BE}:
        return True, "utf-16"
    return mark == BOM_UTF8, "utf-8-sig"


def _other_text(path: Path, codec: str) -> str:
    """Return what to do about a text that is in another encoding."""
    if codec != "utf-8-sig":
        return f"{path} is not {codec} text: say another --encoding."
    with path.open("rb") as file:
        at = next((n for n, line in enumerate(file, 1) if not _is_utf8(line)), 1)
    return (
        f"{path}, line {at}: not UTF-8 text. Say how it was saved, such as --encoding gbk (Excel in Chinese) "
        "or cp1252, or save it as UTF-8."
    )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _jsonl(path: Path, codec: str) -> Iterator[Row]:
    with path.open(encoding=codec, newline="\n") as file:
        for number, data in enumerate(file, 1):
            if not data.strip():
                continue
            try:
                found = msgspec.json.decode(data)
            except msgspec.DecodeError as fault:
                at = re.search(r"byte (\d+)", str(fault))
                column = f", column {int(at[1]) + 1}" if at else ""
                raise Failed(f"{path}, line {number}{column}: not valid JSON: {fault}.", "bad_row") from fault
            values = found if isinstance(found, dict) else {_TEXT: found}
            yield Row(number, _name(values, number), values)


def _csv(path: Path, codec: str) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CELL)
    with path.open(encoding=codec, newline="") as file:
        first = file.readline()
        reader = csv.reader(itertools.chain([first], file), delimiter=_delimiter(path, first), strict=True)
        heads = _heads(path, next(_records(path, reader), (1, []))[1])
        for number, cells in _records(path, reader):
            if cells:
                values = _values(path, number, heads, cells)
                yield Row(number, _name(values, number), values)


def _records(path: Path, reader: Reader) -> Iterator[tuple[int, list[str]]]:
    """Yield the records of a CSV with the lines where they begin. Raises `Failed`: one is none."""
    while True:
        number = reader.line_num + 1
        try:
            yield number, next(reader)
        except StopIteration:
            return
        except csv.Error as fault:
            raise Failed(f"{path}, line {number}: not CSV: {fault}.", "bad_row") from fault


def _delimiter(path: Path, first: str) -> str:
    """Return what parts the cells: Excel writes semicolons where the comma is in numbers."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    return next((sign for sign in (",", ";", "\t") if sign in first), ",")


def _heads(path: Path, heads: list[str]) -> list[str]:
    heads = [name.strip() for name in heads]  # as the prompt's are read
    if not heads:
        raise Failed(f"{path} is empty: its first line has the names of the columns.")
    twice = next((name for name in heads if name and heads.count(name) > 1), None)
    if twice is not None:
        raise Failed(f"{path}, line 1: two columns are named {twice!r}. Rename one.", "bad_row")
    return heads


def _values(path: Path, number: int, heads: list[str], cells: list[str]) -> dict[str, Any]:
    """Return the cells of a row by their columns; those without a name are left out."""
    if len(cells) != len(heads):
        raise Failed(
            f"{path}, line {number}, column {min(len(cells), len(heads)) + 1}: {len(cells)} cells, "
            f"the head has {len(heads)}.",
            "bad_row",
        )
    return {head: cell for head, cell in zip(heads, cells, strict=True) if head}


def _name(values: dict[str, Any], number: int) -> str:
    given = next((values[name] for name in _ID if values.get(name) not in (None, "")), None)
    return f"row-{number}" if given is None else _told(given)


def template_of(chosen: str | None, prompt: str | None, wishes: dict[str, str], column: str) -> str:
    """Return the template of a run.

    Args:
        chosen: one of `TEMPLATES`.
        prompt: the user's own.
        wishes: what a ready one asks for: `to`, `labels`, `fields`.
        column: that holds the text.

    Raises:
        Unusable: neither or both are given, or a ready one lacks what it asks for.
    """
    if (chosen is None) == (prompt is None):
        raise Unusable(
            f"Say what to do with each row: --prompt 'Translate: {{{column}}}', or --template with one of "
            f"{', '.join(TEMPLATES)}."
        )
    if prompt is not None:
        if not any(found[1] for found in _FIELD.finditer(prompt)):
            raise Unusable("The prompt has no {column}, so every row would ask the same.")
        return prompt
    assert chosen is not None
    ready = TEMPLATES[chosen].format(column=column)
    for name in re.findall(r"\{(to|labels|fields)\}", ready):
        if not wishes.get(name):
            raise Unusable(f"--template {chosen} needs --{name}.")
        ready = ready.replace(f"{{{name}}}", wishes[name].replace("{", "{{").replace("}", "}}"))
    return ready


def _schema(fields: tuple[str, ...]) -> dict[str, Any]:
    members = {name: {"type": ["string", "null"]} for name in fields}
    schema = {
        "type": "object",
        "properties": members,
        "required": list(fields),
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "extracted", "strict": True, "schema": schema},
    }
