"""Many rows of an older schema, and several gateways that start on them at once and are killed while one migrates.

.venv/bin/python -m tests.upgrade --calls 325000
"""
