from contextlib import closing
from pathlib import Path

import pytest
from tests.stores.books import SLOT, copy_all, figures, journal, make, write
from tests.stores.records import CLOCK, COSTS, IDS, PRICES, cost_of, later_version, marked, opened, settled

from headgate.money.cost import upper_bound
from headgate.money.rules import CHECKPOINT_TOKENS
from headgate.ports import Lost
from headgate.stores.journal import records
from headgate.stores.journal.cursor import Cursor
from headgate.stores.journal.segments import START, segment_numbers, segment_path
from headgate.stores.sql.check import check
from headgate.stores.sql.database import Place, connect
from headgate.stores.sql.recovery import RecoveryReport, recover
from headgate.values import Prices, Usage

ESTIMATED_AND_RECOVERED = 1 | 8
BANDS = {
    "plain": PRICES,
    "dear audio": Prices(150_000, 600_000, 75_000, 150_000, 600_000, 900_000, 2_000_000),
    "dear cache writes": Prices(150_000, 600_000, 75_000, 187_500, 600_000, 150_000, 600_000),
    "dear reasoning": Prices(150_000, 600_000, 75_000, 150_000, 900_000, 150_000, 600_000),
    "a fee": Prices(150_000, 600_000, 75_000, 150_000, 600_000, 150_000, 600_000, 5_000_000),
    "long": Prices(
        150_000, 600_000, 75_000, 150_000, 600_000, 150_000, 600_000, 0, 200_000,
        Prices(300_000, 900_000, 75_000, 300_000, 900_000, 300_000, 900_000),
    ),
}  # fmt: skip


def start(data: Place, *, absorb_unmarked: bool = False) -> RecoveryReport:
    with closing(connect(data)) as sql:
        return recover(data, sql, CLOCK, absorb_unmarked=absorb_unmarked)


def test_a_settlement_is_booked_exactly(place: Place) -> None:
    data = make(place)
    record = opened()
    end = settled(record, status=404)
    with journal(data) as book:
        write(book, [(record, end)])
    assert start(data) == RecoveryReport(1, 2, 1, 0, 0)
    assert figures(data, "SELECT charge, status, flags, settled_at FROM calls") == [
        (end.charge, 404, 0, end.at)
    ]


def test_a_mark_is_charged_with_one_checkpoint_more(place: Place) -> None:
    data = make(place)
    record = opened(streamed=True)
    with journal(data) as book:
        book.open(record)
        book.mark(marked(record, 256))
        book.mark(marked(record, 512))
    assert start(data).estimated == 1
    made = 512 + CHECKPOINT_TOKENS
    assert figures(data, "SELECT charge, cost, output, flags FROM calls") == [
        (cost_of(300, made), cost_of(300, made, COSTS), made, ESTIMATED_AND_RECOVERED | 4)
    ]


def test_a_mark_never_charges_above_the_hold(place: Place) -> None:
    data = make(place)
    record = opened(streamed=True, hold=200_000)
    with journal(data) as book:
        book.open(record)
        book.mark(marked(record, 256))
    start(data)
    assert figures(data, "SELECT charge, absorbed FROM calls") == [(200_000, 0)]


def test_an_open_call_is_charged_its_hold(place: Place) -> None:
    data = make(place)
    record = opened()
    with journal(data) as book:
        book.open(record)
    assert start(data) == RecoveryReport(1, 1, 0, 1, 0)
    made = -(-(record.hold - cost_of(record.input_bound, 0)) * 1000 // PRICES.output)
    assert figures(data, "SELECT charge, absorbed, input, output, flags FROM calls") == [
        (record.hold, 0, record.input_bound, made, ESTIMATED_AND_RECOVERED)
    ]
    assert figures(data, "SELECT cost FROM calls") == [(cost_of(record.input_bound, made, COSTS),)]
    assert check(data, CLOCK.wall()).findings == []


@pytest.mark.parametrize("bounds", [(500, 1_000), (7, 1), (500_000, 32_768), (1, 0)])
@pytest.mark.parametrize("name", BANDS)
def test_an_open_call_shows_the_tokens_that_its_hold_stands_for(
    name: str, bounds: tuple[int, int], place: Place
) -> None:
    """Tokens, prices and charge agree, as if the call had used all that it might."""
    prices, (given, made) = BANDS[name], bounds
    data = make(place)
    record = opened(hold=upper_bound(given, made, prices), input_bound=given, prices=prices)
    with journal(data) as book:
        book.open(record)
    start(data)
    assert figures(data, "SELECT charge, input, output, flags FROM calls") == [
        (record.hold, given, made, ESTIMATED_AND_RECOVERED)
    ]
    assert check(data, CLOCK.wall()).findings == []


def test_an_open_call_at_the_cheaper_of_two_targets_shows_what_its_hold_buys_there(place: Place) -> None:
    data = make(place)
    record = opened(hold=2 * cost_of(500, 1000), input_bound=500)
    free = opened(hold=5_000, prices=Prices(), costs=None)
    with journal(data) as book:
        book.open(record)
        book.open(free)
    start(data)
    [(charge, output, dear), (nothing, _, _)] = figures(
        data, "SELECT charge, output, hold FROM calls ORDER BY charge DESC"
    )
    assert (charge, dear, nothing) == (record.hold, record.hold, 0)
    assert output > 1000
    assert check(data, CLOCK.wall()).findings == []


def test_by_policy_the_house_pays_for_an_open_call(place: Place) -> None:
    data = make(place)
    record = opened()
    with journal(data) as book:
        book.open(record)
    start(data, absorb_unmarked=True)
    assert figures(data, "SELECT charge, absorbed FROM calls") == [(0, record.hold)]
    assert figures(data, "SELECT kind, amount FROM entries WHERE kind != 2") == [(3, record.hold)]


def test_only_the_attempt_that_was_cut_is_estimated(place: Place) -> None:
    data = make(place)
    first = opened()
    second = opened(first.call, attempt=1, provider="azure")
    with journal(data) as book:
        book.open(first)
        book.mark(marked(first, 256))
        book.open(second)
    start(data)
    assert figures(data, "SELECT attempt, charge FROM calls") == [(1, second.hold)]
    assert figures(data, "SELECT attempt FROM entries WHERE kind = 2") == [(1,)]


def test_what_an_attempt_before_the_crash_had_used_is_still_our_cost(place: Place) -> None:
    data = make(place)
    first = opened()
    lost = (Lost(0, Usage(700, 20), estimated=True),)
    second = opened(first.call, attempt=1, provider="azure", lost=lost, streamed=True)
    third = opened(first.call, attempt=2, provider="groq", lost=lost)
    with journal(data) as book:
        book.open(first)
        book.open(second)
        book.open(third)
    start(data)
    [(made,)] = figures(data, "SELECT output FROM calls")
    due = [(0, cost_of(700, 20, COSTS)), (2, cost_of(third.input_bound, made, COSTS))]
    assert figures(data, "SELECT attempt, amount FROM entries WHERE kind = 2 ORDER BY attempt") == due
    assert figures(data, "SELECT attempt, input, output, estimated FROM lost") == [(0, 700, 20, 1)]
    assert check(data, CLOCK.wall()).findings == []


def test_an_unpriced_call_stays_free(place: Place) -> None:
    data = make(place)
    record = opened(prices=None, costs=None)
    with journal(data) as book:
        book.open(record)
    start(data)
    assert figures(data, "SELECT charge, cost, flags FROM calls") == [(0, 0, ESTIMATED_AND_RECOVERED | 2)]


def test_recovering_twice_books_once_and_leaves_one_empty_segment(place: Place) -> None:
    data = make(place)
    calls = [opened() for _ in range(100)]
    with journal(data, segment_bytes=4096) as book:
        write(book, [(record, settled(record) if index % 2 else None) for index, record in enumerate(calls)])
        last = book.position.segment
    report = start(data)
    assert (report.slots, report.settled, report.estimated) == (1, 50, 50)
    folder = data / "journal" / SLOT
    assert segment_numbers(folder) == [last + 1]
    assert start(data) == RecoveryReport(1)
    assert start(data) == RecoveryReport(1)
    assert figures(data, "SELECT count(*), max(seq) FROM calls") == [(100, 100)]
    with journal(data) as book:
        assert book.position.segment == last + 2


def test_every_slot_is_replayed_whatever_serves_now(place: Place) -> None:
    data = make(place)
    for slot in ("slot-0", "slot-1", "slot-7"):
        record = opened()
        with journal(data, slot) as book:
            write(book, [(record, settled(record))])
    assert start(data) == RecoveryReport(3, 6, 3, 0, 0)


def test_what_was_drained_before_the_crash_is_not_booked_again(place: Place) -> None:
    data = make(place)
    drained, late, cut = opened(), opened(), opened()
    with journal(data) as book:
        write(book, [(drained, settled(drained)), (late, None), (cut, None)])
        copy_all(data)
        book.settle(settled(late))
    report = start(data)
    assert (report.settled, report.estimated) == (1, 1)
    assert figures(data, "SELECT count(*), max(seq) FROM calls") == [(3, 3)]


def test_a_crash_between_booking_and_clearing_up_books_once(place: Place) -> None:
    data = make(place)
    calls = [opened() for _ in range(10)]
    with journal(data) as book:
        write(book, [(record, settled(record) if index % 2 else None) for index, record in enumerate(calls)])
    folder = data / "journal" / SLOT
    saved = segment_path(folder, 1).read_bytes()
    start(data)
    charged = figures(data, "SELECT call, charge FROM calls ORDER BY call")
    # The same journal again, and the checkpoint where a start that died would have left it.
    segment_path(folder, 2).unlink()
    segment_path(folder, 1).write_bytes(saved)
    with closing(connect(data)) as sql:
        sql.execute('UPDATE drains SET segment = 1, "offset" = 0')
    CLOCK.move(5)
    start(data)
    assert figures(data, "SELECT call, charge FROM calls ORDER BY call") == charged


def test_a_torn_tail_is_cut_without_a_word(place: Place) -> None:
    data = make(place)
    whole, torn = opened(), opened()
    with journal(data) as book:
        write(book, [(whole, settled(whole))])
        book.open(torn)
    path = segment_path(data / "journal" / SLOT, 1)
    path.write_bytes(path.read_bytes()[:-7] + bytes(500))
    assert start(data) == RecoveryReport(1, 2, 1, 0, 0)


def test_damage_is_stepped_over_reported_and_kept_aside(place: Place) -> None:
    data = make(place)
    calls = [opened() for _ in range(3)]
    with journal(data) as book:
        write(book, [(record, settled(record)) for record in calls])
    path = segment_path(data / "journal" / SLOT, 1)
    content = bytearray(path.read_bytes())
    content[content.index(calls[1].call) + 40] ^= 1
    path.write_bytes(content)
    report = start(data)
    assert (report.settled, report.estimated, report.damaged) == (2, 0, 2)  # an OPEN, so a SETTLE too
    assert path.with_suffix(".damaged").exists()


def test_a_journal_of_a_later_version_is_refused_whole(place: Place) -> None:
    data = make(place)
    folder = data / "journal" / SLOT
    folder.mkdir(parents=True)
    segment_path(folder, 1).write_bytes(later_version())
    with pytest.raises(records.JournalTooNew, match="version 9"):
        start(data)
    assert segment_numbers(folder) == [1]


def test_a_journal_of_version_1_is_read(place: Place) -> None:
    """The file was written by version 1 and never changes: see `write_golden`."""
    folder = place / SLOT
    folder.mkdir()
    golden = Path(__file__).with_name("journal-v1.log")
    segment_path(folder, 1).write_bytes(golden.read_bytes())
    found = Cursor(folder, START).read(100)
    assert [kind for kind, _ in found] == [records.HEAD, records.OPEN, records.MARK, records.SETTLE]
    head, record, mark, end = (each for _, each in found)
    call = bytes.fromhex("019ab329000070008000000000000001")
    assert head == records.Head(1, 1_763_942_400_000_000)
    assert (record.call, record.attempt, record.model, record.hold) == (call, 1, "gpt-4o", 2_000_000)
    assert record.prices.long.input == 300_000
    assert mark.usage == Usage(300, 256)
    assert (end.charge, end.costs, end.estimated) == (165_000, (0, 110_000), True)


def write_golden(path: Path) -> None:
    """Write the golden file anew: only for a new version, beside the old one."""
    from headgate.ports import Mark, Open, Settle
    from headgate.values import Book, Prices

    call, at = bytes.fromhex("019ab329000070008000000000000001"), 1_763_942_400_000_000
    long = Prices(300_000, 900_000, 150_000, 300_000, 900_000, 300_000, 900_000)
    prices = Prices(150_000, 600_000, 75_000, 150_000, 600_000, 150_000, 600_000, 0, 200_000, long)
    record = Open(
        call, 1, at, Book.SIM, 1, 2, 3, 4, "chat", "gpt-4o", "openai", "gpt-4o-2024-11-20", prices, prices,
        2_000_000, 500, bytes(16), True,
    )  # fmt: skip
    mark = Mark(call, 1, at + 1_000_000, Usage(300, 256))
    usage = Usage(300, 200, 1, 2, 3, 4, 5)
    end = Settle(call, 1, at + 2_000_000, 200, usage, 165_000, 7, (0, 110_000), True, 900, 2_000_000)
    path.write_bytes(
        records.frame(records.HEAD, records.Head(1, at))
        + records.frame(records.OPEN, record)
        + records.frame(records.MARK, mark)
        + records.frame(records.SETTLE, end)
        + bytes(64)
    )


def test_a_hundred_thousand_records_are_recovered(place: Place) -> None:
    data = make(place)
    with journal(data) as book:
        for index in range(50_000):
            record = opened(IDS.next())
            book.open(record)
            if index >= 100:
                book.settle(settled(record))
    report = start(data)
    assert report.settled == 49_900
    assert report.estimated == 100
