import pytest
from tests.stores.records import opened, settled

from headgate.stores.journal.cursor import Settled
from headgate.stores.journal.handover import Handover
from headgate.stores.journal.segments import Position


def given(*ends: tuple[int, int]) -> tuple[Handover, list[Settled]]:
    """Return what has been handed over: calls that end at these places, the first with two records, then three, …"""
    passed, calls = Handover(Position(1, 5)), []
    for number, end in enumerate(ends, 2):
        record = opened()
        calls.append(Settled([record], settled(record)))
        passed.give(end, number, calls[-1])
    return passed, calls


@pytest.mark.parametrize(
    ("until", "limit", "count", "end"),
    [
        (Position(1, 9), 10, 0, (1, 9)),
        (Position(1, 10), 10, 1, (1, 10)),
        (Position(1, 29), 10, 2, (1, 29)),
        (Position(2, 0), 10, 3, (2, 0)),
        (Position(2, 40), 10, 4, (2, 40)),
        (Position(2, 40), 3, 3, (1, 30)),
        (Position(9, 0), 4, 4, (2, 7)),
    ],
)
def test_as_much_is_taken_as_is_durable_and_no_more_than_wanted(
    until: Position, limit: int, count: int, end: tuple[int, int]
) -> None:
    passed, calls = given((1, 10), (1, 20), (1, 30), (2, 7))
    taken = passed.take(Position(1, 5), until, limit)
    assert taken == (calls[:count], end, sum(range(2, 2 + count)))
    rest = passed.take(Position(*end), Position(9, 9), 10)
    assert rest is not None
    assert rest.settled == calls[count:]


def test_what_was_read_meanwhile_is_left_out() -> None:
    passed, calls = given((1, 10), (1, 20), (1, 30))
    assert passed.take(Position(1, 20), Position(1, 30), 2) == (calls[2:], (1, 30), 4)


def test_what_was_never_given_is_to_be_read() -> None:
    assert given((1, 10))[0].take(Position(1, 4), Position(1, 30), 2) is None
