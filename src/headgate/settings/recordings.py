"""The settings of recorded answers."""

from __future__ import annotations

import msgspec


class RecordingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answers that callers want recorded: by an `Idempotency-Key`, or to read on after a cut."""

    kept_h: float = 24.0  # hours that the answer to an Idempotency-Key is kept
    keep_s: float = 120.0  # how long a call with an Idempotency-Key goes on when its caller has gone
    resume_s: int = 600  # the most that `x-headgate-resume` may ask for
    answer_mb: int = 16  # of one answer; a longer one passes, and cannot be given again
    total_mb: int = 1024  # of all that are kept; above it the oldest of whoever has most go first
    memory_mb: int = 256  # of those that are being made, in each worker
    entries: int = 200_000  # keys that are known; above it the oldest of whoever has most go first

    def wrong(self) -> str:
        """Return what is wrong; empty where nothing is."""
        whole = (self.answer_mb, self.total_mb, self.memory_mb, self.entries)
        if not (0 < self.kept_h <= 720 and 0 <= self.keep_s <= 3600 and 1 <= self.resume_s <= 3600):
            return "kept_h must be above 0 and at most 720, keep_s 0 to 3600, resume_s 1 to 3600"
        if min(whole) < 1 or max(whole) > 1 << 30:
            return "answer_mb, total_mb, memory_mb and entries must be at least 1"
        return ""
