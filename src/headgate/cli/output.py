"""Print: JSON for scripts, tables for people. rich is loaded with the first table."""

from __future__ import annotations

import sys
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rich.table import Table

    from headgate.ops.desk import Page, PageOrder
    from headgate.values import WallMicros

_PIPE_WIDTH: Final = 160
_WIDEST: Final = 2_000


def print_json(value: Any) -> None:
    """Print one JSON document, indented; text stays readable in any script."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int] = ()) -> None:
    """Print rows under their heads; the columns of `numbers` are right-aligned."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    right = set(numbers)
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    _print(table)


def print_list(
    heads: Sequence[str], rows: Sequence[Sequence[str]], nothing: str, *, numbers: Iterable[int] = ()
) -> None:
    """Print things that people manage, without columns in which nothing stands.

    At a terminal that is too narrow for it, each thing has lines of its own, so that ids can be copied.

    Args:
        heads: of the columns.
        rows: the things.
        nothing: what is said where there are none.
        numbers: the columns that are right-aligned.
    """
    if not rows:
        click.echo(nothing)
        return
    used = [index for index in range(len(heads)) if any(row[index] for row in rows)]
    shown = [[row[index] for index in used] for row in rows]
    titles = [heads[index] for index in used]
    if sys.stdout.isatty() and _width([titles, *shown]) > get_terminal_size().columns:
        for row in shown:
            print_fields(zip(titles, row, strict=True))
            click.echo()
        return
    right = set(numbers)
    print_table(titles, shown, numbers=[place for place, index in enumerate(used) if index in right])


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print what one thing is, a line for each of its members that say something."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in fields:
        if text:
            table.add_row(name, _plain(text))
    _print(table)


def _print(table: Table) -> None:
    from rich.console import Console

    # Not at a terminal: as wide as it needs to be, so that no line is broken for a pipe.
    console = Console(highlight=False, soft_wrap=False)
    if not sys.stdout.isatty():
        widest = console.options.update(max_width=_WIDEST)
        console.width = max(_PIPE_WIDTH, console.measure(table, options=widest).maximum)
    console.print(table)


def _width(rows: Sequence[Sequence[str]]) -> int:
    """Return how many columns of a terminal a table takes."""
    from rich.cells import cell_len

    return sum(3 + max(map(cell_len, column)) for column in zip(*rows, strict=True))


def newest(fetch: Callable[[PageOrder], Page], last: int) -> list[Any]:
    """Return the last rows of a list, the newest first.

    Args:
        fetch: returns the page of an order.
        last: how many.
    """
    from headgate.ops.desk import MOST, PageOrder

    rows: list[Any] = []
    after = ""
    while True:
        part = fetch(PageOrder(limit=min(MOST, last - len(rows)), after=after, order="desc"))
        rows += part.data
        if not part.has_more or len(rows) >= last:
            return rows
        after = part.last_id


def public(record: msgspec.Struct) -> dict[str, Any]:
    """Return a record as scripts read it: a book by its name."""
    from headgate.values import Book

    members = msgspec.structs.asdict(record)
    return {name: value.label if isinstance(value, Book) else value for name, value in members.items()}


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count of things: `1 call`, `2,345 calls`; `many` where that is not `one` with an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def notes_text(metadata: Mapping[str, str]) -> str:
    """Return metadata on one line."""
    return ", ".join(f"{name}={text}" for name, text in metadata.items())


def _plain(cell: str) -> str:
    from rich.markup import escape

    return escape("".join(char if char.isprintable() else "?" for char in cell))


def date_text(at: WallMicros) -> str:
    """Return an instant to the minute in UTC; empty for 0."""
    if not at:
        return ""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M")
