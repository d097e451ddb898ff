"""Books, amounts and limits as the API has them: by name, and within bounds that the description states."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from headgate.money.amounts import MAX_NANO
from headgate.money.credit import MOST_AT_ONCE
from headgate.ops.credit import MOST_DAYS, MOST_TOKENS
from headgate.values import MAX_LIMIT, Book

R = TypeVar("R")
BookName = Literal["real", "sim"]
Cap = Annotated[int, Meta(ge=0, le=MAX_NANO)]  # nano-USD
Amount = Annotated[int, Meta(ge=0, le=MOST_AT_ONCE)]  # nano-USD, of one posting
Paid = Annotated[int, Meta(ge=1, le=MOST_AT_ONCE)]
Tokens = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]
Count = Annotated[int, Meta(ge=0, le=MAX_LIMIT)]  # of a limit; 0: none
Days = Annotated[int, Meta(ge=0, le=MOST_DAYS)]
Reference = Annotated[str, Meta(min_length=1, max_length=200)]
Note = Annotated[str, Meta(max_length=500)]
_BOOKS: Final = {"real": Book.REAL, "sim": Book.SIM}


def book_of(name: BookName | None) -> Book | None:
    """Return a book by its name."""
    return None if name is None else _BOOKS[name]


def shown(record: msgspec.Struct, kind: type[R]) -> R:
    """Return a record as it is sent: its book by name."""
    members = msgspec.structs.asdict(record)
    if isinstance(members.get("book"), Book):
        members["book"] = members["book"].label
    return msgspec.convert(members, kind)


def ordered(body: Any, kind: type[R]) -> R:
    """Return what was sent as the order that an operation takes."""
    members = msgspec.structs.asdict(body)
    if "book" in members:
        members["book"] = _BOOKS[members["book"]]
    return kind(**members)
