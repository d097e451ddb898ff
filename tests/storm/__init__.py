"""A storm of cancellations over few connections: no tenant ever sees what is another's, and nothing is left over.

    .venv/bin/python -m tests.storm --calls 100000 --seed 7

`echo` is the upstream, which says back what it is asked, in pieces, and sometimes more than it was asked for;
`callers` are the tenants' clients, who leave at any moment; `rounds` plays them against a worker in this
process, whose open calls are cancelled at any await, some of them twice.
"""
