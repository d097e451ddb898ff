"""Requests and tokens per minute, and calls at once, for each key. Continuous refill, no windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.errors import RateLimited

if TYPE_CHECKING:
    from headgate.values import MonotonicNs, Principal

_MINUTE_NS = 60_000_000_000
_SECOND_NS = 1_000_000_000


class Bucket:
    """A bucket that refills to `limit` within a minute. Levels are kept times 60 s, in integers."""

    __slots__ = ("_filled_at", "_fixed", "_level", "limit")

    def __init__(self, limit: int, now: MonotonicNs, kind: bytes = b"requests") -> None:
        self.limit = limit
        self._fixed = (
            b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: " % (kind, limit, kind),
            b"\r\nx-ratelimit-reset-%b: " % kind,
        )
        self._level = limit * _MINUTE_NS
        self._filled_at = now

    def level(self, now: MonotonicNs) -> int:
        """Return what is in the bucket now, in units times 60 s (in ns)."""
        passed = now - self._filled_at
        if passed > 0:
            self._level = min(self.limit * _MINUTE_NS, self._level + passed * self.limit)
            self._filled_at = now
        return self._level

    def take(self, amount: int) -> None:
        """Take `amount`; call `level` first. May go below zero by a correction, never by admission."""
        self._level -= amount * _MINUTE_NS

    def remaining(self, now: MonotonicNs) -> int:
        """Return the whole units left."""
        return max(0, self.level(now) // _MINUTE_NS)

    def wait_s(self, amount: int, now: MonotonicNs) -> float:
        """Return the seconds until `amount` fits."""
        lack = amount * _MINUTE_NS - self.level(now)
        return max(0.0, lack / self.limit / 1e9)

    def lines(self, now: MonotonicNs) -> bytes:
        """Return the header lines that tell limit, remaining units, and the time until it is full."""
        level = self.level(now)
        before, between = self._fixed
        full_in_ns = (self.limit * _MINUTE_NS - level) // self.limit
        wait = (
            b"%dms" % (full_in_ns // 1_000_000) if full_in_ns < _SECOND_NS else go_duration(full_in_ns / 1e9)
        )
        return b"%b%d%b%b\r\n" % (before, level // _MINUTE_NS if level > 0 else 0, between, wait)


class Gauge:
    """The limits of one key and what is used of them."""

    __slots__ = ("active", "requests", "tokens")

    def __init__(self, principal: Principal, now: MonotonicNs) -> None:
        self.requests = Bucket(principal.rpm, now, b"requests") if principal.rpm else None
        self.tokens = Bucket(principal.tpm, now, b"tokens") if principal.tpm else None
        self.active = 0

    def lines(self, now: MonotonicNs) -> bytes:
        """Return the `x-ratelimit-*` header lines of what is limited; b"" without a limit."""
        requests, tokens = self.requests, self.tokens
        lines = requests.lines(now) if requests is not None else b""
        return lines + tokens.lines(now) if tokens is not None else lines


class Rates:
    """Admit calls within their keys' limits. Refused calls take nothing."""

    __slots__ = ("_gauges",)

    def __init__(self) -> None:
        self._gauges: dict[int, tuple[Principal, Gauge]] = {}

    def gauge(self, principal: Principal, now: MonotonicNs) -> Gauge:
        """Return a key's gauge; new limits begin with full buckets."""
        found = self._gauges.get(principal.key)
        if found is not None:
            known, gauge = found
            if known is principal or (known.rpm, known.tpm) == (principal.rpm, principal.tpm):
                return gauge
        gauge = Gauge(principal, now)
        self._gauges[principal.key] = (principal, gauge)
        return gauge

    def admit(self, principal: Principal, tokens: int, model: str, now: MonotonicNs) -> Gauge:
        """Count a call of at most `tokens` tokens.

        Raises:
            RateLimited: with the seconds to wait; nothing was counted.
        """
        gauge = self.gauge(principal, now)
        requests, budget = gauge.requests, gauge.tokens
        if requests is not None and requests.level(now) < _MINUTE_NS:
            raise _limited(gauge, requests, 1, f"{model} on requests per min (RPM)", "requests", now)
        if budget is not None and budget.level(now) < tokens * _MINUTE_NS:
            if tokens > budget.limit:
                raise RateLimited(
                    f"Request too large for {model} on tokens per min (TPM): Limit {budget.limit}, Requested "
                    f"{tokens}. The input or output tokens must be reduced in order to run successfully.",
                    kind="tokens",
                    retry_after_s=None,
                )
            raise _limited(gauge, budget, tokens, f"{model} on tokens per min (TPM)", "tokens", now)
        if principal.concurrency and gauge.active >= principal.concurrency:
            raise RateLimited(
                f"Rate limit reached for {model} on concurrent requests: Limit {principal.concurrency}, "
                f"Used {gauge.active}, Requested 1. Please try again when one of them has ended.",
                kind="requests",
                retry_after_s=1.0,
            )
        if requests is not None:
            requests.take(1)
        if budget is not None:
            budget.take(tokens)
        gauge.active += 1
        return gauge

    @staticmethod
    def correct(gauge: Gauge, admitted: int, used: int) -> None:
        """End a call: give back (or take) the difference between its estimate and its usage."""
        gauge.active -= 1
        if gauge.tokens is not None:
            gauge.tokens.take(used - admitted)

    @staticmethod
    def cancel(gauge: Gauge, admitted: int) -> None:
        """Undo an admission of a call that we then refused ourselves."""
        gauge.active -= 1
        if gauge.requests is not None:
            gauge.requests.take(-1)
        if gauge.tokens is not None:
            gauge.tokens.take(-admitted)


def _limited(
    gauge: Gauge, bucket: Bucket, amount: int, what: str, kind: str, now: MonotonicNs
) -> RateLimited:
    wait_s = bucket.wait_s(amount, now)
    used = bucket.limit - bucket.remaining(now)
    return RateLimited(
        f"Rate limit reached for {what}: Limit {bucket.limit}, Used {used}, Requested {amount}. "
        f"Please try again in {go_duration(wait_s).decode()}.",
        kind=kind,
        retry_after_s=wait_s,
        headers=dict(line.split(": ") for line in gauge.lines(now).decode().splitlines()),
    )


def go_duration(seconds: float) -> bytes:
    """Write seconds as OpenAI does, as a Go duration: `547ms`, `1s`, `2m52.8s`, `6m0s`."""
    if seconds < 1:
        return b"%dms" % round(seconds * 1000)
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest // 10}.{rest % 10}s" if rest % 10 else f"{rest // 10}s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    return (f"{hours}h{text}" if hours else text).encode()
