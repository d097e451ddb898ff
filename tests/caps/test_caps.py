"""`make caps` in short: one round of each kind, and a caller that is not served for the wrong reason is found."""

import asyncio
import sys
from pathlib import Path
from random import Random

import pytest
from tests.caps.__main__ import play, report
from tests.caps.callers import Order, Seen
from tests.caps.money import PRICE, Payer
from tests.caps.provider import Note, Provider
from tests.caps.rounds import Rounds, Tally

WORKERS = [1] if sys.platform == "win32" else [1, 4]


@pytest.mark.parametrize("workers", WORKERS)
def test_caps_hold_in_one_round_of_each_kind(tmp_path: Path, workers: int) -> None:
    tallies = asyncio.run(play(tmp_path, workers, 1, Random(workers), at_once=60))
    assert [line for tally in tallies.values() for line in tally.wrong] == []
    assert all(
        tally.served and tally.refused for name, tally in tallies.items() if name != "all kinds at once"
    )


@pytest.mark.parametrize(
    ("charge", "tokens", "amount", "said"),
    [
        (10 * PRICE, 10, 10 * PRICE, ""),
        (11 * PRICE, 10, 20 * PRICE, "charged for"),
        (10 * PRICE, 10, 10 * PRICE - 1, "OVERSPENT"),
        (21 * PRICE, 21, 30 * PRICE, "above the hold"),
    ],
)
def test_a_difference_is_found(charge: int, tokens: int, amount: int, said: str) -> None:
    rounds, tally = Rounds.__new__(Rounds), Tally()
    rounds.provider = Provider()
    rounds.provider.notes = {"req_1": Note(1, tokens, whole=True)}
    seen = [Seen(20, 200, "", "req_1", whole=True)]
    assert rounds.compare(tally, seen, {"req_1": charge}, amount) == amount - charge
    assert [said in line for line in tally.wrong] == ([True] if said else [])


def test_one_call_too_many_is_found() -> None:
    class Generous(Rounds):
        """A gateway that serves one more than is paid for."""

        def __init__(self) -> None:
            self.chance, self.provider, self.paid = Random(1), Provider(), 0
            self.money = self  # type: ignore[assignment]

        def payer(self, keys: int = 1, *, prepaid: bool = False) -> Payer:
            return Payer(1, 1, tuple((n, "k") for n in range(keys)))

        def budget(self, scope: str, ref: int, amount: int) -> int:
            self.paid = amount
            return 1

        async def all_at_once(self, payer: Payer, orders: list[Order]) -> list[Seen]:  # type: ignore[override]
            tokens = orders[0].tokens
            k = self.paid // (tokens * PRICE) + 1
            before = len(self.provider.notes)
            served = [
                Seen(tokens, 200, "", f"req_{before + n}", whole=True) for n in range(min(k, len(orders)))
            ]
            self.provider.notes |= {each.request_id: Note(1, tokens, whole=True) for each in served}
            return served + [Seen(tokens, 429, "insufficient_quota")] * (len(orders) - len(served))

        def charges(self, payer: Payer) -> dict[str, int]:
            return {name: note.tokens * PRICE for name, note in self.provider.notes.items()}

    tally = Tally()
    asyncio.run(Generous().equal(tally, "key", 60))
    assert any("were served" in line for line in tally.wrong)
    assert any("OVERSPENT" in line for line in tally.wrong)
    assert report(1, {"key": tally}) == len(tally.wrong)
