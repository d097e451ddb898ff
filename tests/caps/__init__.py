"""Caps that hold: many calls at once on money for a few, against a provider that keeps its own record.

    .venv/bin/python -m tests.caps --rounds 50 --workers 4 --seed 7

`provider` is the upstream, `money` makes accounts, keys, budgets and grants while the server runs, `callers`
are the clients, `rounds` what is played and what must be true after it, `serving` the gateway: real processes
under their supervisor, or workers in this process where the wall clock is moved.
"""
