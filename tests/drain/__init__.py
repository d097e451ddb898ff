"""A gateway that stops: nobody is refused before its balancer has seen it, and nobody loses what was paid for.

    .venv/bin/python -m tests.drain --streams 100 --grace 30 --leave 5

`provider` streams for as long as it is asked to, `clients` are those who read, probe and call meanwhile, `rounds`
stops a gateway of real processes under them, and restarts several behind a balancer one after the other.
"""
