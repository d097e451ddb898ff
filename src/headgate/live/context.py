"""An upper bound of what a conversation holds, from its events and from the provider's last count. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.values import Usage

_SLACK = 256  # tokens: audio that was on its way when what came before it was committed
_FRESH = 2_048  # tokens: instructions that the provider gives where the client gives none


class Context:
    """How many tokens the next response may read.

    A response's own count, with what it made, is what the conversation held when it began; what was
    said since is on top. Audio counts apart until it is committed.
    """

    __slots__ = ("_base", "_began", "_buffered", "_counted", "_since", "_told")

    def __init__(self) -> None:
        self._base = _FRESH
        self._counted = False  # by a provider
        self._told = 0  # in all, without what is buffered
        self._since = 0  # of it, what `_base` holds
        self._buffered = 0
        self._began: dict[str, int] = {}  # what had been told when a response began

    @property
    def bound(self) -> int:
        """Return the most tokens that a response can read now."""
        return self._base + self._told - self._since + self._buffered + _SLACK

    @property
    def rough(self) -> int:
        """Return a guess of the same: a quarter of what no provider has counted yet."""
        known = self._base if self._counted else 0
        return known + (self._told - self._since + self._buffered) // 4

    def tell(self, tokens: int, buffered: int = 0) -> None:
        """Take in what a side said: tokens at most."""
        self._told += tokens
        self._buffered += buffered

    def commit(self) -> None:
        """Take note that the audio so far is part of the conversation."""
        self._told += self._buffered
        self._buffered = 0

    def clear(self) -> None:
        """Take note that the audio so far is dropped."""
        self._buffered = 0

    def begin(self, response: str) -> None:
        """Take note that a response begins."""
        self._began[response] = self._told

    def end(self, response: str, usage: Usage | None, *, spoken: int, apart: bool) -> None:
        """Take note of what a response has read and made.

        Args:
            response: its id.
            usage: the provider's count, where it can be believed.
            spoken: what it made by our own count.
            apart: it is not part of the conversation.
        """
        told = self._began.pop(response, self._told)
        if apart:
            return
        if usage is None:
            self._told += spoken
            return
        self._counted = True
        self._base = usage.input_tokens + usage.output_tokens
        self._since = told
