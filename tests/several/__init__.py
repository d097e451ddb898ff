"""Several gateways on one PostgreSQL of their own, which can be killed, frozen, filled and slowed."""
