"""The canaries of a process: whose calls go to them, what is known of both sides, which are over. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from headgate.routing.canary import Tried, point, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.routing.settings import Canary

ATTEMPTS: Final = "headgate_canary_attempts"
ROLLBACKS: Final = "headgate_canary_rollbacks"
_MOST_REFUSED: Final = 10_000
PAIRS: Final = "headgate_canary_pairs"
Counts = dict[tuple[str, tuple[str, ...]], int]  # by the name of a metric and its labels


class Trial(NamedTuple):
    """One canary under one set of settings."""

    id: str  # other settings are another trial
    model: str
    canary: Canary

    @property
    def salt(self) -> str:
        """Return what its callers are hashed with: another share hashes them alike."""
        return f"{self.model} {self.canary.target.provider}/{self.canary.target.model}"


class RolledBack(NamedTuple):
    """A canary that is rolled back, and why."""

    trial: Trial
    why: str


class Counter(Protocol):
    """Where counts are kept and shown."""

    counts: Counts

    def count(self, name: str, *labels: str, by: int = 1) -> None:
        """Count more."""
        ...


class Trials:
    """What becomes of canaries here.

    Args:
        counter: takes what is counted.
        alone: no other worker counts, so a verdict is sought after each call; else whoever sees the counts
            of all calls `judge`.
    """

    __slots__ = ("_alone", "_latest", "_refused", "counter", "ended", "over", "running")

    def __init__(self, counter: Counter, *, alone: bool) -> None:
        self.counter = counter
        self._alone = alone
        self._latest: dict[tuple[str, bool], float] = {}  # the main side's last answer that is in no pair
        self._refused: set[tuple[str, str]] = set()  # callers whose request was refused, by trial
        self.running: Mapping[str, Trial] = {}
        self.over: set[str] = set()  # ids of those that are rolled back
        self.ended: dict[str, RolledBack] = {}  # rolled back here and not kept yet

    def follow(self, trials: Mapping[str, Trial]) -> None:
        """Go on with the canaries of other settings; what was rolled back stays so under the same ones."""
        self.running = trials

    def sticky_by(self, trial: str) -> str:
        """Return what a caller of a canary is known by."""
        found = self.running.get(trial)
        return found.canary.sticky_by if found is not None else "key"

    def takes(self, trial: str, caller: str) -> bool | None:
        """Say whether a canary takes the calls of a caller; None: it is over, and nothing is counted."""
        found = self.running.get(trial)
        if found is None or trial in self.over:
            return None
        return point(caller, found.salt) * 100 < found.canary.share_percent

    def tried(self, trial: str, *, canary: bool, failed: bool, refused: str = "") -> None:
        """Take in how the first attempt of a call on one side ended.

        Args:
            trial: whose.
            canary: which side.
            failed: whether it gave no answer.
            refused: who the caller is, where the request itself was refused: that counts once for each, for a
                caller whose requests are all wrong is always on the same side.
        """
        found = self.running.get(trial)
        if found is None or (trial, refused) in self._refused:
            return
        if refused:
            if len(self._refused) >= _MOST_REFUSED:
                self._refused.clear()
            self._refused.add((trial, refused))
        side, outcome = "canary" if canary else "main", "failed" if failed else "served"
        self.counter.count(ATTEMPTS, found.model, trial, side, outcome)
        self._look(found)  # after the main side's, too: a breaker may have taken the canary out meanwhile

    def took(self, trial: str, pace: float, *, canary: bool, stream: bool) -> None:
        """Take in how long an answer took; one of the canary's is paired with the main side's last."""
        found = self.running.get(trial)
        if found is None:
            return
        if not canary:
            self._latest[trial, stream] = pace
            return
        other = self._latest.pop((trial, stream), None)
        if other is not None:
            slower = pace * 100 > other * (100 + found.canary.slower_percent)
            self.counter.count(PAIRS, found.model, trial, "slower" if slower else "not_slower")
            self._look(found)

    def judge(self, counts: Counts) -> None:
        """Seek a verdict on each canary by the counts of all workers."""
        for trial in self.running.values():
            self._judge(trial, counts)

    def _look(self, trial: Trial) -> None:
        if self._alone:
            self._judge(trial, self.counter.counts)

    def _judge(self, trial: Trial, counts: Counts) -> None:
        if trial.id not in self.over and (why := found_of(trial, counts)):
            self.over.add(trial.id)
            self.ended[trial.id] = RolledBack(trial, why)


def found_of(trial: Trial, counts: Counts) -> str:
    """Return why counts say that a canary is to be rolled back; empty: they do not."""

    def tried(name: str, *which: str, well: str, badly: str) -> Tried:
        labels = (trial.model, trial.id, *which)
        return Tried(counts.get((name, (*labels, well)), 0), counts.get((name, (*labels, badly)), 0))

    return verdict(
        tried(ATTEMPTS, "canary", well="served", badly="failed"),
        tried(ATTEMPTS, "main", well="served", badly="failed"),
        tried(PAIRS, well="not_slower", badly="slower"),
        trial.canary,
    )
