"""All that a company runs, on one machine: three gateways and a worker on PostgreSQL, Redis and RabbitMQ of their own.

    .venv/bin/python -m tests.ensemble --seconds 30

Under a steady load of calls and batches, limits, budgets and changes are measured over all replicas; then each of the
three services is killed and started again, frozen and thawed; then every process of ours is restarted. In the end what
clients, the provider, the ledger and the batches know of every call is compared. The table says goal and figure.
"""
