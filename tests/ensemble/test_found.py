"""What the comparison and the limits look for is found."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.caps.money import PRICE, Payer
from tests.caps.provider import GIVEN, Note
from tests.ensemble.limits import Pour
from tests.ensemble.load import Load, Seen
from tests.ensemble.outages import right
from tests.ensemble.reconciler import Booked, Reconciler
from tests.ensemble.world import Ensemble

KEY, BATCH_KEY = 1, 2
NAMES = [f"req_{number:032x}" for number in range(4)]


class Books(Reconciler):
    """The comparison of some calls, of 10 tokens each; the last one is a batch's."""

    def __init__(self) -> None:
        self.notes = {name: Note(attempts=1, tokens=10, whole=True) for name in NAMES}
        world = SimpleNamespace(provider=SimpleNamespace(notes=self.notes))
        load = SimpleNamespace(
            world=world,
            payers={"free": Payer(1, 1, ((KEY, ""),))},
            batch_keys={"batches": Payer(1, 1, ((BATCH_KEY, ""),))},
            seen=[Seen("free", 0.0, 0.1, 200, name, whole=True) for name in NAMES[:3]],
        )
        super().__init__(cast("Load", load), 0)
        self.booked = {name: Booked(KEY, 10 * PRICE, 200, 0) for name in NAMES[:3]}
        self.booked[NAMES[3]] = Booked(BATCH_KEY, 5 * PRICE, 200, 0)
        self.settled = {name: call.charge for name, call in self.booked.items()}

    def _ask(self, question: str, *values: object) -> list[Any]:
        return [(bytes.fromhex(name.removeprefix("req_")), amount) for name, amount in self.settled.items()]

    def wrong(self) -> list[str]:
        return self.calls(0.0).wrong


def test_books_that_are_right_are_right() -> None:
    assert Books().wrong() == []


def lose(books: Books) -> None:
    del books.booked[NAMES[0]]


def overcharge(books: Books) -> None:
    books.booked[NAMES[1]] = Booked(KEY, 10 * PRICE + 1, 200, 0)


def charge_a_line_in_full(books: Books) -> None:
    books.booked[NAMES[3]] = Booked(BATCH_KEY, 10 * PRICE, 200, 0)


def serve_and_refuse(books: Books) -> None:
    books.booked[NAMES[0]] = Booked(KEY, 0, 503, 0)


def invent(books: Books) -> None:
    books.booked["req_" + "f" * 32] = Booked(KEY, PRICE, 200, 0)


def send_twice(books: Books) -> None:
    books.notes[NAMES[2]].attempts = 2


def enter_twice(books: Books) -> None:
    books.settled[NAMES[2]] *= 2


def estimate(books: Books) -> None:
    books.booked[NAMES[2]] = Booked(KEY, 10 * PRICE, 200, 1)


@pytest.mark.parametrize(
    "spoil",
    [lose, overcharge, charge_a_line_in_full, serve_and_refuse, invent, send_twice, enter_twice, estimate],
)
def test_books_that_are_wrong_are_found(spoil: Any) -> None:
    books = Books()
    spoil(books)
    assert books.wrong()


@pytest.mark.parametrize(
    ("kind", "passed", "seconds", "holds"),
    [
        ("rpm", 40, 18.0, True),  # 30 and 9
        ("rpm", 41, 18.0, False),
        ("rpm", 30, 18.0, False),  # hardly used
        ("rpd", 24, 60.0, True),
        ("rpd", 26, 60.0, False),
        ("tpm", 100, 15.0, True),  # 1,000 and an estimate; 11 each
        ("tpm", 120, 15.0, False),
    ],
)
def test_what_a_limit_lets_through_too_much_or_too_little_is_found(
    kind: str, passed: int, seconds: float, holds: bool
) -> None:
    notes = {str(number): Note(tokens=11 - GIVEN) for number in range(passed)}
    world = SimpleNamespace(provider=SimpleNamespace(notes=notes))
    pour = Pour(cast("Ensemble", world), kind, {"rpm": 30, "rpd": 24, "tpm": 800}[kind], "")
    pour.passed = [(0.0, seconds, name) for name in notes]
    assert (pour.judge().wrong == []) is holds


@pytest.mark.parametrize(
    ("service", "who", "at", "statuses"),
    [
        ("redis", "free", 1.0, {200}),
        ("rabbitmq", "limited", 1.0, {200, 429}),
        ("postgresql", "free", 1.0, {200}),
        ("postgresql", "budget", 1.0, {200, 503}),
        ("postgresql", "tight", 1.0, {200, 429, 503}),
        ("postgresql", "free", 39.0, {503}),
        ("postgresql", "free", 50.0, {200, 503}),  # it is there again, and is found again
    ],
)
def test_who_may_be_answered_how_while_a_service_is_away(
    service: str, who: str, at: float, statuses: set[int]
) -> None:
    assert right(service, Seen(who, at, 0.1, 200), 0.0, 45.0) == statuses
