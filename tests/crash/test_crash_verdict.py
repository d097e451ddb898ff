"""The comparison of the crash loop finds what it is there for."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.crash.callers import Seen
from tests.crash.server import cost
from tests.crash.verdict import Comparison, read_notes

DONE, CUT, UNMARKED = "req_" + "01" * 16, "req_" + "02" * 16, "req_" + "03" * 16
HOLD = cost(400, 1200)
NOTES = f"B {DONE} 10 20\nT {DONE} 20\nF {DONE} 10 20\nB {CUT} 10 900\nT {CUT} 600\nB {UNMARKED} 10 900\n"


def row(call: str, given: int, made: int, **changes: Any) -> dict[str, Any]:
    return {
        "request_id": call,
        "input_tokens": given,
        "output_tokens": made,
        "cost_nano_usd": cost(given, made),
        "estimated": False,
        "status": 200,
        **changes,
    }


def rows() -> list[dict[str, Any]]:
    return [
        row(DONE, 10, 20),
        row(CUT, 40, 512 + 256, estimated=True),
        row(UNMARKED, 400, 1200, estimated=True),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "notes").write_text(NOTES)
    with closing(sqlite3.connect(tmp_path / "headgate.sqlite")) as sql:
        sql.execute("CREATE TABLE calls (call, hold, output, flags)")
        for call, output, flags in ((DONE, 20, 0), (CUT, 768, 9), (UNMARKED, 1200, 9)):
            sql.execute(
                "INSERT INTO calls VALUES (?, ?, ?, ?)", (bytes.fromhex(call[4:]), HOLD, output, flags)
            )
        sql.commit()
    return tmp_path


def wrong(folder: Path, books: list[dict[str, Any]]) -> list[str]:
    seen = [
        Seen(1, 10, 20, False, DONE, 200, 20, finished=True),
        Seen(1, 10, 900, True, CUT, 200, 590),
        Seen(1, 10, 900, True),
    ]
    return Comparison(books, seen, read_notes(folder / "notes")).run(folder).wrong


def test_books_that_agree_have_nothing_wrong(folder: Path) -> None:
    assert wrong(folder, rows()) == []


@pytest.mark.parametrize(
    ("index", "changes", "said"),
    [
        (0, {"cost_nano_usd": cost(10, 20) + 1}, "record says"),
        (0, {"output_tokens": 21}, "record says"),
        (0, {"estimated": True}, "arrived whole and it is estimated"),
        (1, {"cost_nano_usd": HOLD + 1}, "768 tokens"),
        (2, {"cost_nano_usd": HOLD - 1}, "1200 tokens"),
        (2, {"cost_nano_usd": 0}, "1200 tokens"),
        (1, {"estimated": False}, "record says"),
    ],
)
def test_a_difference_is_found(folder: Path, index: int, changes: dict[str, Any], said: str) -> None:
    books = rows()
    books[index] |= changes
    assert any(said in line for line in wrong(folder, books))


def test_a_lost_and_a_doubled_settlement_are_found(folder: Path) -> None:
    assert any("do not have it" in line for line in wrong(folder, rows()[1:]))
    assert any("do not have it" in line for line in wrong(folder, rows()[:1]))
    assert any("2 times" in line for line in wrong(folder, [*rows(), rows()[0]]))


def test_a_mark_that_is_too_old_is_found(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "headgate.sqlite")) as sql:
        sql.execute("UPDATE calls SET output = 257 WHERE output = 768")
        sql.commit()
    books = rows()
    books[1] |= {"output_tokens": 257, "cost_nano_usd": cost(40, 257)}
    assert any("marked 1 of 600" in line for line in wrong(folder, books))
