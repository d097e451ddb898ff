"""Callers who leave 100,000 answers in the middle: the gateway's memory, files and connections are as before.

    .venv/bin/python -m tests.leaks --calls 100000 --seed 7

`provider` begins every answer and ends none, `callers` leave it at any place, in order or not, and `rounds` looks
at the process of the gateway after each part, and at its books at the end.
"""
