"""Sums in buckets: the same as adding up the calls, from the journal, the calls and the roll-ups alike."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

import pytest
from tests.stores.books import make
from tests.stores.records import START
from tests.stores.test_reports import HOUR, fill

from headgate.records import BucketLine, BucketOrder, CallLine, Group
from headgate.stores.sql.database import Place
from headgate.stores.sql.reports import SqlReports
from headgate.values import Book

DAY = 24 * HOUR
MINUTE = HOUR // 60


def added_up(lines: list[CallLine], order: BucketOrder) -> dict[tuple[object, ...], tuple[int, ...]]:
    sums: dict[tuple[object, ...], list[int]] = defaultdict(lambda: [0] * 5)
    for line in lines:
        at = round(datetime.fromisoformat(line.opened_at).timestamp() * 1_000_000)
        if not order.since <= at < order.until or line.book != (order.book or Book.REAL).label:
            continue
        if order.operations and line.operation not in order.operations:
            continue
        names = tuple(getattr(line, group) for group in order.groups)
        parts = (1, line.input_tokens, line.output_tokens, line.cached_tokens, line.cost_nano_usd)
        for index, part in enumerate(parts):
            sums[at // order.width_us * order.width_us, *names][index] += part
    return {name: tuple(parts) for name, parts in sums.items()}


def read(lines: list[BucketLine], order: BucketOrder) -> dict[tuple[object, ...], tuple[int, ...]]:
    return {
        (line.at, *(getattr(line, group) for group in order.groups)): (
            line.calls, line.input_tokens, line.output_tokens, line.cached_tokens, line.cost_nano_usd,
        )
        for line in lines
    }  # fmt: skip


@pytest.fixture(scope="module")
def books(shared_place: Place) -> tuple[Place, list[CallLine]]:
    data = make(shared_place)
    return data, fill(data)


GROUPS: list[tuple[Group, ...]] = [(), ("project",), ("member", "key"), ("project", "member", "key", "model")]


@pytest.mark.parametrize("operations", [(), ("chat", "completions"), ("embeddings",)])
@pytest.mark.parametrize("width", [MINUTE, HOUR, DAY])
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize(
    ("since", "until"),
    [(START, START + 10 * DAY), (START + HOUR // 2, START + 40 * HOUR + HOUR // 7), (START + 5, START + 9)],
)
def test_buckets_are_what_the_calls_add_up_to(
    books: tuple[Place, list[CallLine]],
    operations: tuple[str, ...],
    width: int,
    groups: tuple[Group, ...],
    since: int,
    until: int,
) -> None:
    data, lines = books
    for book in Book:
        order = BucketOrder(
            since=since, until=until, width_us=width, groups=groups, operations=operations, book=book
        )
        found = SqlReports(data).buckets(order)
        assert read(found, order) == added_up(lines, order)
        assert found == sorted(
            found, key=lambda line: (line.at, line.project, line.member, line.key, line.model)
        )


def test_buckets_are_narrowed_to_some_things(books: tuple[Place, list[CallLine]]) -> None:
    data, lines = books
    for narrowed in (
        {"accounts": ("acct_two",)}, {"projects": ("proj_two", "proj_three")}, {"members": ("user_two",)},
        {"keys": ("key_three",)}, {"models": ("gpt-4o", "mine")}, {"projects": ("proj_none",)},
    ):  # fmt: skip
        order = BucketOrder(since=START, until=START + 10 * DAY, width_us=DAY, book=Book.REAL, **narrowed)
        some = [
            line
            for line in lines
            for name, values in narrowed.items()
            if getattr(line, name.removesuffix("s")) in values
        ]
        assert read(SqlReports(data).buckets(order), order) == added_up(some, order), narrowed
