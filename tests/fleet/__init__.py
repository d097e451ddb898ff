"""A fleet of replicas that exists only in time: how leases and limits do from one replica to a thousand.

    make simulate
    .venv/bin/python -m tests.fleet --replicas 1 16 1000 --calls 2000 --seconds 10

The code of the gateway decides everything: who may spend (`money/pots.py`, through the tests' store of leases,
which passes the contract of every store), what a replica asks and gives back (`admission/purse.py`, `teller.py`,
`reserve.py`), how limits are split (`money/shares.py`, `admission/sharing.py`). Only time, the line to the store and
the calls are made up here, from a seed: the same seed gives the same figures on every machine.
"""
