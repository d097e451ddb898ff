"""A broker tells who runs batches that there is work: taskiq over RabbitMQ or Redis, the extra `queue`.

All it carries is the id of a batch. What the work is, who does it and what came of it stands in the store,
so a message that is lost costs the time until workers look by themselves, and a second one changes nothing.
"""

from headgate.stores.broker.caller import Caller, Terms

__all__ = ["Caller", "Terms"]
