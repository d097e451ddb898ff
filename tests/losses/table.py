"""What may be answered while the database is away, and when. Seconds are since it went.

==============  =================================================================================================
prepaid         200 from what its gateway has in hand, until the journal's bound; then 503
post-paid       200, until the journal's bound; then 503
once            503, with an Idempotency-Key: nobody can tell whether it was made before
never seen      503: money that nobody has in hand is not spent (a budget that it shares, perhaps before: 200)
unknown key     401 for a second, as ever; then 503: it may have been made elsewhere
known key       never 401; 503 once keys were not confirmed for their bound
administrator   503: no change without its audit
back            all as before within 10 s, without a restart
==============  =================================================================================================

A database that is only slow, or out of connections but for those that it has given, may do some of its work: 200
is then right, too, where 503 is.
"""

from __future__ import annotations

from dataclasses import dataclass

NEWS_S = 1.0  # for so long an unknown key is called wrong
BACK_S = 10.0
WAIT_S = 6.0  # no answer takes longer: 2 s for money, or one wait for the database, and a slow machine
MANAGING_S = 13.0  # nor one of an administrator: people's statements are given 10 s
SLOWLY_S = 60.0  # where each of their statements is answered, in 2 s
_EARLY_S = 0.5  # it was last heard of a little before it went


@dataclass(frozen=True)
class Bounds:
    """How long calls go on, and how late each change may be seen: a look that was under way takes 3 s."""

    journal_s: float
    keys_s: float
    late_s: float = 6.0


def allowed(who: str, at: float, bounds: Bounds, *, works: bool) -> set[int]:
    """Return which statuses are right.

    Args:
        who: a caller.
        at: seconds since the database went.
        bounds: that are set.
        works: it still answers, if late.
    """
    closed_from = min(bounds.journal_s, bounds.keys_s)
    if works:
        return {"unknown": {401, 503}, "admin": {200, 503}}.get(who, {200, 503})
    if who == "unknown":
        return _turning(at, NEWS_S, bounds.late_s, 401)
    if who in {"admin", "never seen", "once"}:
        return {200, 503} if at < 1.0 else {503}
    return _turning(at, closed_from, bounds.late_s, 200)


def patience_s(who: str, *, works: bool) -> float:
    """Return how long a caller may have to wait."""
    if who != "admin":
        return WAIT_S
    return SLOWLY_S if works else MANAGING_S


def _turning(at: float, when: float, late_s: float, before: int) -> set[int]:
    """Return what is right around the moment when something becomes 503."""
    if at < when - _EARLY_S:
        return {before}
    return {before, 503} if at < when + late_s else {503}
