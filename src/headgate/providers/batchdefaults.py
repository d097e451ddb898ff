"""What most wires of batches have in common: nothing to do where others have something."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.ports import Request
    from headgate.providers.batches import BatchState, Bulk, Unfolded, Unpacking
    from headgate.providers.buckets import ObjectStore
    from headgate.values import Call, Host, Target
    from headgate.wire.batchjobs import BatchJob


class Kept:
    """A wire of a provider that keeps lines and answers itself, and is asked where its models are."""

    __slots__ = ()
    least_lines = 1
    paged = apart = accounts = forgets = False
    objects: ObjectStore | None = None

    def at(self, target: Target) -> Target:
        """Return the target."""
        return target

    def unfit(self, host: Host) -> str:
        """Return nothing: wherever it is, it may."""
        del host
        return ""

    def takes(self, call: Call, target: Target) -> bool:
        """Say yes."""
        del call, target
        return True

    def standing(self, target: Target) -> Request | None:
        """Return nothing: there is nothing to ask."""
        del target
        return None

    def opening(self, job: BatchJob, target: Target, bulk: Bulk) -> Request | None:
        """Return nothing: lines are sent at once."""
        del job, target, bulk
        return None

    def forgotten(self, batch: str) -> BatchState:
        """Refuse: none is."""
        raise NotImplementedError(batch)

    def leavings(self, job: BatchJob, target: Target) -> tuple[Request, ...]:
        """Return none: its provider forgets by itself."""
        del job, target
        return ()

    def unfold(self, target: Target, name: str, body: bytes) -> Unfolded:
        """Refuse: there are no pages."""
        raise NotImplementedError(target.host.name, name, len(body))

    def points(self, name: str) -> bool:
        """Say whether all answers lie at other addresses."""
        del name
        return self.apart

    def lies(self, body: bytes) -> tuple[str, ...]:
        """Return none: what stands of batches tells none."""
        del body
        return ()

    def elsewhere(self, body: bytes) -> tuple[str, ...]:
        """Refuse: answers are where the provider is."""
        raise NotImplementedError(len(body))

    def unpacking(self) -> Unpacking | None:
        """Return nothing: answers are lines."""
        return None


class ReadyAtOnce(Kept):
    """A wire whose files of lines can be used at once, or that has none."""

    __slots__ = ()

    def readiness(self, target: Target, file: str) -> Request | None:
        """Return nothing: there is nothing to ask."""
        del target, file
        return None

    def ready(self, body: bytes) -> bool:
        """Say yes."""
        del body
        return True
