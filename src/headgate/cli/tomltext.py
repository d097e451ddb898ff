"""A TOML file as text, cut where sections begin: one is replaced, and all else stays as it was written."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


class _Piece(NamedTuple):
    """Whole lines that belong to one section, with the comments right above them."""

    section: str  # its name at the top level; empty: comments before all sections
    text: str
    bare: bool = False  # it stands before the first table, so it cannot stand behind one


def with_sections(text: str, source: str, names: Collection[str]) -> str:
    """Return a file in which some sections are those of another file, or are gone where that has none.

    Args:
        text: of the file; valid TOML, as `source` is.
        source: of the other file.
        names: of the sections, at the top level.
    """
    pieces, found = list(_pieces(text)), list(_pieces(source))
    for name in names:
        pieces = _replaced(pieces, [piece for piece in found if piece.section == name], name)
    return "".join(piece.text for piece in pieces)


def _replaced(pieces: list[_Piece], fresh: list[_Piece], name: str) -> list[_Piece]:
    first = next((at for at, piece in enumerate(pieces) if piece.section == name and not piece.bare), None)
    kept = [piece for piece in pieces if piece.section != name]
    tables = len(kept) if first is None else sum(piece.section != name for piece in pieces[:first])
    bare = sum(piece.bare or not piece.section for piece in kept)
    inside = [_spaced(piece) for piece in fresh if not piece.bare]
    kept[max(tables, bare) : max(tables, bare)] = inside
    kept[bare:bare] = [piece for piece in fresh if piece.bare]
    return kept


def _spaced(piece: _Piece) -> _Piece:
    """Return a piece that ends with an empty line."""
    return piece._replace(text=piece.text.rstrip("\n") + "\n\n")


def _pieces(text: str) -> Iterator[_Piece]:
    piece = _Piece("", "", bare=True)
    tables = False
    for above, statement in _statements(text if not text or text.endswith("\n") else text + "\n"):
        header = statement.lstrip().startswith("[")
        if header or not tables:
            detached, attached = _parted(above)
            yield piece._replace(text=piece.text + detached)
            tables = tables or header
            (section,) = tomllib.loads(statement) or ("",)
            piece = _Piece(section, attached + statement, bare=not tables)
        else:
            piece = piece._replace(text=piece.text + above + statement)
    yield piece


def _statements(text: str) -> Iterator[tuple[str, str]]:
    """Yield each header and each assignment with what stands above it; at the end, what stands alone."""
    above, open_ = "", ""
    for line in text.split("\n")[:-1]:
        blank = not line.strip() or line.lstrip().startswith("#")
        if blank and not open_:
            above += line + "\n"
            continue
        open_ += line + "\n"
        if _is_whole(open_):
            yield above, open_
            above = open_ = ""
    if above:
        yield above, ""


def _is_whole(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except tomllib.TOMLDecodeError:  # an array or a text that goes on
        return False
    return True


def _parted(above: str) -> tuple[str, str]:
    """Part what stands above a statement: what an empty line divides from it, and what goes with it."""
    head, gap, attached = above.rpartition("\n\n")
    if gap:
        return head + gap, attached
    return (above, "") if not above.strip() else ("", above)
