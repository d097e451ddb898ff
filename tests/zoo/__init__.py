"""The bug zoo: each bug that a peer shipped, or that we once had, is put into a copy of the source; a test must fail.

    .venv/bin/python -m tests.zoo -j 2 8a retries

`peers.toml` and `own.toml` hold the bugs, `catalogue` reads them, `copies` makes the copies of the source and
runs tests on them, `__main__` plays all. A mutant is the smallest change that brings its bug back; it survives
where every test that it names passes.
"""
