"""The crash loop: kill the real server under load, start it again, compare three records of what happened.

    .venv/bin/python -m tests.crash --kills 40 --seed 7

`oracle` is the provider, a process of its own that notes each call; `callers` are the clients; `server`
starts and kills `headgate serve`; `verdict` compares what callers and oracle know with the books.
"""
