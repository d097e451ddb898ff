"""`make losses` in short; and what it looks for is found."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.losses.disk import full_disk
from tests.losses.rounds import Answer, play, unserved
from tests.losses.table import Bounds, allowed

BOUNDS = Bounds(journal_s=2.0, keys_s=6.0, late_s=8.0)  # this machine may be busy
SECONDS = 11.0


@pytest.mark.postgres
def test_a_database_that_is_gone_or_frozen_is_as_the_table_says(tmp_path: Path) -> None:
    outcomes = asyncio.run(play(tmp_path, ["killed", "frozen"], SECONDS, BOUNDS))
    assert [outcome.wrong for outcome in outcomes] == [[], []]
    for outcome in outcomes:
        refused = {each.who for each in outcome.answers if each.status == 503 and each.at < SECONDS}
        assert refused >= {"prepaid", "post-paid", "never seen", "unknown"}


@pytest.mark.postgres
def test_what_works_a_little_harms_nobody(tmp_path: Path) -> None:
    outcomes = asyncio.run(play(tmp_path, ["exhausted", "slow"], 4.0, BOUNDS))
    assert [outcome.wrong for outcome in outcomes] == [[], []]


@pytest.mark.mount
def test_a_full_disk_closes_calls_and_loses_none(tmp_path: Path) -> None:
    assert asyncio.run(full_disk(tmp_path, 2.0)).wrong == []


def test_refusing_everybody_is_found() -> None:
    paid = [Answer("prepaid", at, 0.1, 503 if at else 200) for at in (0.0, 1.2, 1.6)]
    assert unserved([*paid, Answer("post-paid", 1.5, 0.1, 200)]) == ["prepaid was not served"]


@pytest.mark.parametrize(
    ("who", "at", "works", "right"),
    [
        ("prepaid", 1.0, False, {200}),
        ("prepaid", 5.0, False, {200, 503}),
        ("prepaid", 12.0, False, {503}),
        ("post-paid", 12.0, False, {503}),
        ("never seen", 3.0, False, {503}),
        ("once", 3.0, False, {503}),
        ("once", 3.0, True, {200, 503}),
        ("unknown", 0.4, False, {401}),
        ("unknown", 2.0, False, {401, 503}),
        ("unknown", 15.0, False, {503}),
        ("admin", 3.0, False, {503}),
        ("admin", 3.0, True, {200, 503}),
        ("unknown", 3.0, True, {401, 503}),
    ],
)
def test_the_table_is_what_it_says(who: str, at: float, works: bool, right: set[int]) -> None:
    assert allowed(who, at, BOUNDS, works=works) == right
