"""Settings that change under load: no call fails, none goes where it should not, and nothing grows.

    .venv/bin/python -m tests.reload --reloads 200 --wrong 20

Each version of the file says its number twice, in the provider's address and in its model's name; `provider` says
back what it was asked by, and `rounds` changes the file, one time in ten to one that cannot be used.
"""
