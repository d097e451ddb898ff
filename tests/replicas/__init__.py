"""Three gateways on one PostgreSQL behind a plain TCP balancer: caps, changes, idempotency keys, and a rolling restart.

.venv/bin/python -m tests.replicas --rounds 50 --calls 200
"""
