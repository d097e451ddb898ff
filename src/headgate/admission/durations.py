"""Durations as OpenAI writes them, in Go's form: `547ms`, `1.146s`, `2m52.8s`, `6m0s`. Rounded up."""

from __future__ import annotations

MS_NS = 1_000_000


def go_duration(duration_ns: int) -> bytes:
    """Write a duration, to the millisecond: who waits so long never comes too early."""
    return in_go(-(-duration_ns // MS_NS))


def in_go(ms: int) -> bytes:
    """Write a duration in whole milliseconds."""
    if ms < 1_000:
        return b"%dms" % ms
    if ms < 60_000:
        return b"%gs" % (ms / 1_000)
    minutes, ms = divmod(ms, 60_000)
    if minutes < 60:
        return b"%dm%gs" % (minutes, ms / 1_000)
    hours, minutes = divmod(minutes, 60)
    return b"%dh%dm%gs" % (hours, minutes, ms / 1_000)
