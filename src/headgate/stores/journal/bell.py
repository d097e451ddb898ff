"""A signal between threads that costs nothing while nobody rings."""

from __future__ import annotations

import threading
from contextlib import suppress


class Bell:
    """Rung any number of times, from any thread; heard once, by one thread."""

    __slots__ = ("_silence",)

    def __init__(self) -> None:
        self._silence = threading.Lock()  # held while it was not rung
        self._silence.acquire()

    def ring(self) -> None:
        """Wake who listens, now or when it listens next."""
        with suppress(RuntimeError):  # it was rung already
            self._silence.release()

    def wait(self, timeout_s: float = -1) -> bool:
        """Wait until it is rung; say whether it was within the time (-1: for ever)."""
        return self._silence.acquire(timeout=timeout_s)
