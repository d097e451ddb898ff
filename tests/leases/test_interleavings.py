"""Many small worlds, each in an order of its own: no cap is ever passed, and nothing is ever lost.

`LEASE_WORLDS=2000` plays more of them, `LEASE_SEED=17` plays one again.
"""

import os

import pytest
from tests.leases.world import Plan, World

WORLDS = int(os.environ.get("LEASE_WORLDS", "8"))
FIRST = int(os.environ.get("LEASE_SEED", "-1"))
SEEDS = range(WORLDS) if FIRST < 0 else range(FIRST, FIRST + 1)
PLANS = {
    "alone": Plan(1, 60),
    "alone, resized": Plan(1, 60, resizes=True),
    "together": Plan(3, 80),
    "resized": Plan(3, 80, resizes=True),
    "crashes": Plan(3, 80, crashes=True),
    "frozen": Plan(3, 80, freezes=True, resizes=True),
    "locked": Plan(2, 60, locks=True),
    "answers lost": Plan(3, 80, losses=True, resizes=True),
    "clock steps": Plan(3, 60, steps=True),
    "credit": Plan(3, 60, prepaid=True),
    "everything": Plan(4, 100, True, True, True, True, False, True, True),
}


@pytest.mark.parametrize("kind", PLANS)
def test_no_order_of_events_passes_a_cap_or_loses_money(kind: str) -> None:
    served = refused = 0
    for seed in SEEDS:
        world = World(seed, PLANS[kind])
        try:
            world.run()
        except BaseException as fault:
            fault.add_note(f"world {kind!r}, seed {seed}: LEASE_SEED={seed} plays it again")
            raise
        served, refused = served + world.served, refused + world.refusals
    assert served > 10 * len(SEEDS)
    assert refused > 2 * len(SEEDS)
