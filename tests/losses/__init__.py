"""What becomes of calls while PostgreSQL is away: the table of what is open and what is closed, on real servers.

    .venv/bin/python -m tests.losses --seconds 30

One gateway, a PostgreSQL of its own behind a wire. While it is killed, frozen, out of connections, or slow, four
callers go on: a prepaid one and a post-paid one that were here before, one that never called before, and one with
a key that nobody made; and an administrator. Every answer is compared with `table.py`, which is the table.
"""
