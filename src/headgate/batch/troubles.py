"""What could not be done and is tried again: told when it begins or changes, not each time that it is met."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Callable


class Troubles:
    """The troubles of one process with its batches.

    Args:
        tell: told what could not be done.
        fault: told of a bug of ours: where, and what was raised.
    """

    __slots__ = ("_fault", "_tell", "_told")

    def __init__(self, tell: Callable[[str], None], fault: Callable[[str, BaseException], None]) -> None:
        self._tell = tell
        self._fault = fault
        self._told: dict[str, str] = {}  # by what they are about: the last that was told

    def met(self, about: str, trouble: str) -> None:
        """Tell a trouble, unless it was the last thing that was told of this."""
        if self._new(about, trouble):
            self._tell(f"{about}: {trouble}")

    def caught(self, about: str, fault: Exception) -> None:
        """Tell what was raised: an error as a trouble, anything else as a bug of ours, with its class."""
        if isinstance(fault, GatewayError):
            self.met(about, fault.in_full)
        elif self._new(about, f"{type(fault).__name__}: {fault}"):
            self._fault(about, fault)

    def over(self, about: str) -> None:
        """Take note that it went well: the next trouble is a new one."""
        self._told.pop(about, None)

    def _new(self, about: str, said: str) -> bool:
        new = self._told.get(about) != said
        self._told[about] = said
        return new
