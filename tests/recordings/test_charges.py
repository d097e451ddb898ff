"""What a recorded call has cost: also one that tokens of a grant have paid is not free."""

from __future__ import annotations

from contextlib import closing

from tests.stores.books import copy_all, journal, make, write
from tests.stores.grants import Credit
from tests.stores.records import IDS, opened, settled

from headgate.stores.sql.charges import Charges, booked, total
from headgate.stores.sql.database import Place, connect, folder_of


def test_what_tokens_of_a_grant_have_paid_is_not_free(place: Place) -> None:
    make(place)
    with closing(Credit(place)) as credit:
        credit.give(1_200, model="gpt-4o*")
        found = credit.call(2_000_000)
    assert found is not None
    paid, end = found
    money = opened()
    assert (end.charge, end.tokens) == (0, 500)
    with journal(place) as book:
        write(book, [found, (money, settled(money))])
    for _ in range(2):  # in the journal alone, and in the books
        with closing(connect(place)) as sql:
            charges = Charges(folder_of(place))
            assert charges.of(sql, paid.call) is None
            assert charges.of(sql, money.call) == settled(money).charge > 0
            assert charges.of(sql, IDS.next()) == 0
        copy_all(place)
    with closing(connect(place)) as sql:
        assert booked(sql, paid.call) == {paid.call: None}
        assert booked(sql, money.call) == {money.call: settled(money).charge}


def test_what_tokens_have_paid_in_part_has_no_price_in_money() -> None:
    assert [total(charges) for charges in ([], [2, 3], [2, None], [None])] == [0, 5, None, None]
