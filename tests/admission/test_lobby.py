"""Who is begun next of those who wait, and who is late."""

from __future__ import annotations

from headgate.admission.lobby import Lobby

MS = 1_000_000
LONG = 10**9


def everybody(lobby: Lobby[str], now: int = 0, *, refuses: bool = True) -> list[str]:
    found = []
    lobby.turn(now, refuses=refuses)
    while (item := lobby.next(0, LONG)) is not None:
        found.append(item)
    return found


def filled(names: str) -> Lobby[str]:
    """A lobby whose key is the letter; they came a millisecond after one another."""
    lobby = Lobby[str](patience_ns=4 * MS)
    for number, name in enumerate(names):
        lobby.enter(f"{name}{number}", ord(name), number * MS, first=name.isupper(), last=name == "z")
    return lobby


def passed_over(names: str) -> Lobby[str]:
    """The same, when two turns have begun none of them."""
    lobby = filled(names)
    for _ in range(2):
        lobby.turn(9 * MS)
    return lobby


def test_the_newest_goes_first_and_keys_take_turns() -> None:
    assert everybody(filled("aaaa")) == ["a3", "a2", "a1", "a0"]
    assert everybody(filled("aaaabbc")) == ["a3", "b5", "c6", "a2", "b4", "a1", "a0"]


def test_those_of_a_key_go_in_order_while_nobody_is_refused_and_the_line_is_short() -> None:
    assert everybody(filled("aaaabbc"), 15 * MS, refuses=False) == ["a0", "b4", "c6", "a1", "b5", "a2", "a3"]
    assert everybody(filled("aabb"), 16 * MS, refuses=False) == ["a1", "b3", "a0", "b2"]


def test_the_line_is_as_long_as_all_would_have_waited_in_order() -> None:
    lobby = filled("aaaa")
    lobby.turn(3 * MS, refuses=True)
    assert lobby.next(0, LONG) == "a3"
    assert lobby.age_ns(10 * MS) == 9 * MS  # as if it was the first one that went
    lobby.turn(10 * MS)
    assert lobby.next(0, LONG) == "a0"
    assert lobby.age_ns(10 * MS) == 8 * MS
    assert everybody(lobby) == ["a2", "a1"]
    assert lobby.age_ns(99 * MS) == 0


def test_batch_waits_until_no_other_does() -> None:
    assert everybody(filled("zazbz")) == ["a1", "b3", "z4", "z2", "z0"]


def test_who_asks_for_little_goes_before_all_others_and_in_order() -> None:
    lobby = filled("aAaA")
    assert len(lobby) == 4
    assert everybody(lobby) == ["A1", "A3", "a2", "a0"]
    assert len(lobby) == 0
    assert not everybody(lobby)


def test_a_turn_ends_sooner_for_the_rest() -> None:
    lobby = filled("aA")
    assert lobby.next(2 * MS, MS) == "A1"
    assert lobby.next(2 * MS, MS) is None
    lobby.enter("A2", 1, 0, first=True)
    assert lobby.next(6 * MS, MS) is None
    assert everybody(lobby) == ["A2", "a0"]


def test_who_waited_too_long_is_late_the_first_first() -> None:
    lobby = passed_over("aab")
    assert lobby.late(3 * MS) is None
    assert [lobby.late(5 * MS), lobby.late(5 * MS), lobby.late(5 * MS)] == ["a0", "a1", None]
    assert len(lobby) == 1
    assert everybody(lobby) == ["b2"]


def test_nobody_is_late_before_two_turns_have_passed_over_him() -> None:
    lobby = filled("a")
    lobby.turn(50 * MS)
    assert lobby.late(60 * MS) is None
    lobby.turn(70 * MS)
    assert lobby.late(70 * MS) == "a0"


def test_who_asks_for_little_is_never_late() -> None:
    lobby = passed_over("A")
    assert lobby.late(LONG) is None
    assert len(lobby) == 1


def test_where_nobody_is_refused_nobody_waits_for_ever() -> None:
    lobby = filled("aaaa")
    lobby.turn(201 * MS)
    assert lobby.next(0, LONG) == "a0"
    assert everybody(lobby, 201 * MS) == ["a1", "a3", "a2"]


def test_it_says_how_long_the_first_one_has_waited() -> None:
    lobby = passed_over("aaA")
    assert lobby.age_ns(10 * MS) == 10 * MS
    assert lobby.late(10 * MS) == "a0"
    assert lobby.age_ns(10 * MS) == 9 * MS
    assert everybody(lobby) == ["A2", "a1"]
    assert lobby.age_ns(10 * MS) == 0


def test_an_older_one_that_is_taken_makes_nobody_late() -> None:
    lobby = passed_over("ab")
    assert lobby.next(0, LONG) == "a0"
    assert lobby.late(4 * MS) is None
    assert lobby.late(5 * MS) == "b1"
    lobby.enter("a9", ord("a"), 9 * MS, first=False)
    assert everybody(lobby) == ["a9"]


def test_nothing_stays_of_those_who_were_late() -> None:
    lobby = Lobby[int](patience_ns=4 * MS)
    for number in range(5_000):  # ten come each millisecond, one of them is begun, and the others are late
        now = number // 10 * MS
        lobby.enter(number, 1, now, first=False)
        if number % 10 == 9:
            lobby.turn(now, refuses=True)
            assert lobby.next(0, 1) is not None
            while lobby.late(now) is not None:
                pass
    assert len(lobby) < 50
    assert sum(map(len, lobby._by_key.values())) == len(lobby)
    assert len(lobby._line) < 60
