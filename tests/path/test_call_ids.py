"""Ids of calls: UUIDv7, each once, in the order in which they were made."""

from uuid import RFC_4122, UUID

from tests.path.fakes import HandClock

from headgate.ports import CallIds


def test_an_id_is_a_uuid_of_version_7_with_the_time_in_it():
    clock = HandClock()
    made = UUID(bytes=CallIds(clock).next())
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == clock.wall() // 1000


def test_ids_of_one_moment_are_in_order_beyond_what_a_millisecond_has():
    ids = CallIds(HandClock())
    made = [ids.next() for _ in range(10_000)]
    assert made == sorted(made)
    assert len({each[8:] for each in made}) == len(made)
    assert {(UUID(bytes=each).version, UUID(bytes=each).variant) for each in made} == {(7, RFC_4122)}
    assert UUID(bytes=made[-1]).int >> 80 == (UUID(bytes=made[0]).int >> 80) + 2


def test_a_clock_that_steps_back_gives_no_earlier_ids():
    clock = HandClock()
    ids = CallIds(clock)
    first = ids.next()
    clock.now_us -= 1_000_000
    assert ids.next() > first


def test_the_time_of_the_last_id_is_known():
    clock = HandClock()
    ids = CallIds(clock)
    for _ in range(2):
        clock.now_us += 1_234
        ids.next()
        assert ids.at == clock.now_us
