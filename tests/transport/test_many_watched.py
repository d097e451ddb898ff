"""Deadlines of thousands of exchanges are looked at in parts, and each once in a walk."""

from __future__ import annotations

from headgate.walks import Walk


def test_a_large_set_is_gone_over_in_parts_and_a_small_one_at_once() -> None:
    walk, many = Walk[int](), set(range(1000))
    seen = walk.part(many)
    assert len(seen) == 400
    assert walk.pause_s(1.0) <= 0.1
    gone = next(iter(many - set(seen)))
    many.discard(gone)
    many.add(5000)  # comes in the middle of a walk: its turn is in the next
    while walk.pause_s(1.0) < 1.0:
        seen += walk.part(many)
    assert sorted(seen) == sorted(set(range(1000)) - {gone})
    assert set(walk.part({1, 2, 3})) == {1, 2, 3}
    assert walk.pause_s(1.0) == 1.0


def test_nothing_is_kept_of_those_who_have_all_left() -> None:
    walk = Walk[int]()
    walk.part(set(range(1000)))
    assert walk.part(set()) == []
    assert walk.pause_s(1.0) == 1.0
    assert walk._left == []
