"""What Stripe sends: events, and their signature."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

SECRET = "whsec_" + "s3cr3t" * 6


def session(account: str, amount: int = 1_000, event: str = "evt_1", **changes: Any) -> bytes:
    """Return the event of a paid checkout of an account; `amount` in cents."""
    paid = {
        "id": f"cs_{event}", "payment_status": "paid", "amount_total": amount, "currency": "usd",
        "payment_intent": f"pi_{event}", "client_reference_id": account, **changes,
    }  # fmt: skip
    return wrapped("checkout.session.completed", paid, event)


def wrapped(kind: str, thing: dict[str, Any], event: str = "evt_1", *, live: bool = True) -> bytes:
    """Return an event about a thing, as Stripe spells it."""
    whole = {"id": event, "type": kind, "livemode": live, "data": {"object": thing}}
    return json.dumps(whole, indent=2).encode()


def signature(payload: bytes, now_s: float, secret: str = SECRET) -> str:
    """Return the header that Stripe sends with a payload."""
    stamp = str(int(now_s))
    due = hmac.new(secret.encode(), stamp.encode() + b"." + payload, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={due}"
