"""Rows of a file as the prompts of a batch. What is wrong with one is told with its line and column."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from headgate.cli.exits import Failed, Unusable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FIELD: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_TEXT: Final = "text"
_ID: Final = ("custom_id", "id")
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
        if given is None:
            known = ", ".join(row.values) or "none"
            raise Failed(
                f"Line {row.line}: the prompt asks for the column {name!r}, which is not there. Columns of "
                f"this line: {known}.",
                "missing_column",
            )
        return given if isinstance(given, str) else msgspec.json.encode(given).decode()

    return _FIELD.sub(value, template)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a JSONL or CSV file.

    Raises:
        Failed: one is wrong; says its line, and the column where that is known.
    """
    try:
        rows = list(_csv(path) if path.suffix.lower() in {".csv", ".tsv"} else _jsonl(path))
    except OSError as fault:
        raise Failed(f"Cannot read {path}: {fault.strerror}.") from fault
    except UnicodeDecodeError as fault:
        raise Failed(f"{path} is not UTF-8 text: {fault.reason} at byte {fault.start}.") from fault
    if not rows:
        raise Failed(f"{path} has no rows.")
    seen: dict[str, int] = {}
    for row in rows:
        if row.name in seen:
            raise Failed(
                f"Line {row.line}: the id {row.name!r} is that of line {seen[row.name]}.",
                "duplicate_id",
            )
        seen[row.name] = row.line
    return rows


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
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


def _csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        heads = next(reader, None)
        if not heads:
            raise Failed(f"{path} is empty: its first line has the names of the columns.")
        for cells in reader:
            number = reader.line_num
            if not cells:
                continue
            if len(cells) != len(heads):
                raise Failed(
                    f"{path}, line {number}, column {min(len(cells), len(heads)) + 1}: {len(cells)} cells, "
                    f"the head has {len(heads)}.",
                    "bad_row",
                )
            values = dict(zip(heads, cells, strict=True))
            yield Row(number, _name(values, number), values)


def _name(values: dict[str, Any], number: int) -> str:
    given = next((values[name] for name in _ID if values.get(name) not in {None, ""}), None)
    return f"row-{number}" if given is None else str(given)


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
