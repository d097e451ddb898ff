"""What a worker has in its hands leaves nothing behind when it is gone."""

from __future__ import annotations

from headgate.batch.hands import Hands
from headgate.values import Book
from headgate.wire.batchjobs import BatchJob, Claim, KeptBatch, Returned

BATCH = KeptBatch(
    n=7,
    status="in_progress",
    job=BatchJob(
        id="batch_7", call=bytes(16), account=1, project=2, key=3, member=0, book=Book.REAL, endpoint="/v1/x",
        input_file="f", created_at=1, expires_at=2,
    ),
)  # fmt: skip
CALL = bytes(15) + b"c"
CLAIM = Claim(1, 0, 9, "c1", 0, 100, CALL, 4, 0, 0)


def test_an_ask_that_found_no_line_leaves_no_entry_of_its_batch() -> None:
    hands = Hands()
    bare = sizes(hands)
    hands.ask([CALL])
    hands.take(BATCH, [CALL], [CLAIM])
    assert (hands.of(BATCH), hands.calls()) == (1, {CALL})
    hands.let_go(BATCH, [Returned(1, 4, 0, 0)])
    hands.ask([CALL])
    hands.take(BATCH, [CALL], [])
    assert (hands.of(BATCH), hands.calls()) == (0, set())
    assert sizes(hands) == bare


def sizes(hands: Hands) -> list[int]:
    """Return how many entries each part has."""
    return [len(getattr(hands, name)) for name in Hands.__slots__]
