"""A process that moves credit until it is killed: `python -m tests.ops.credit_child DATA FROM`.

It says on standard output which top-up it has booked, after it has. Every third one is refunded in part.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

from headgate.ops.actors import LOCAL
from headgate.ops.credit import RefundOrder, TopUpOrder, refund, top_up
from headgate.ops.desk import Desk
from headgate.ports import SystemClock
from headgate.stores.sql.admin import SqlAdminStore

USD = 1_000_000_000


def amount_of(number: int) -> int:
    return (5 + number % 7) * USD


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def main() -> None:
    with closing(SqlAdminStore(Path(sys.argv[1]))) as store:
        desk = Desk(store, SystemClock())
        number = int(sys.argv[2])
        say("R")
        while True:
            top_up(LOCAL, desk, TopUpOrder(amount=amount_of(number), reference=f"ref-{number}"))
            say("T", number)
            if number % 3 == 0:
                refund(LOCAL, desk, RefundOrder(amount=USD, reference=f"back-{number}"))
                say("B", number)
            number += 1


if __name__ == "__main__":
    main()
