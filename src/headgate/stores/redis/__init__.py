"""What the replicas of a gateway share in a Redis or Valkey, and may lose: shares of limits, and wake-ups.

Money is never here: who may spend is lent by the books (`stores/sql/leases.py`), so FLUSHALL costs nobody a
cent. Needs the extra `redis`; imported only where `storage.redis` is set.
"""
