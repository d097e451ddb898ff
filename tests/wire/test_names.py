from headgate.wire.names import ByNames


def test_what_names_stand_for_is_worked_out_once():
    asked: list[tuple[str, ...]] = []

    def count(names: tuple[str, ...]) -> int:
        asked.append(names)
        return len(names)

    known = ByNames(count)
    assert [known["a", "b"], known["a", "b"], known["b", "a"], known[()]] == [2, 2, 2, 0]
    assert asked == [("a", "b"), ("b", "a"), ()]


def test_names_from_callers_do_not_fill_memory():
    known = ByNames(len)
    assert known["x" * 1_025, "y"] == 2
    assert not known
    for number in range(3_000):
        assert known[str(number),] == 1
    assert len(known) <= 1024
