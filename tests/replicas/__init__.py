"""Three gateways on one PostgreSQL behind a plain TCP balancer: caps, changes, and a rolling restart.

.venv/bin/python -m tests.replicas --rounds 50 --calls 200
"""
