"""Print: JSON for scripts, tables for people. rich is loaded with the first table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headgate.values import WallMicros

_NARROWEST: Final = 60
_PIPE_WIDTH: Final = 160


def print_json(value: Any) -> None:
    """Print one JSON document, indented; text stays readable in any script."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int] = ()) -> None:
    """Print rows under their heads; the columns of `numbers` are right-aligned."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    right = set(numbers)
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    # Not at a terminal: as wide as it needs to be, so that no line is broken for a pipe.
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    Console(width=width, highlight=False, soft_wrap=False).print(table)


def _plain(cell: str) -> str:
    from rich.markup import escape

    return escape("".join(char if char.isprintable() else "?" for char in cell))


def date_text(at: WallMicros) -> str:
    """Return an instant to the minute in UTC; empty for 0."""
    if not at:
        return ""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M")
