"""The log: text for people at a terminal, JSON elsewhere. structlog is loaded with the first line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_LINE = 8_000


class Log:
    """Write log lines to standard error. Secrets never get here: messages name things, not values."""

    __slots__ = ("_logger",)

    def __init__(self) -> None:
        self._logger: Any = None

    def line(self, level: str, event: str, **values: object) -> None:
        """Write one line."""
        if self._logger is None:
            self._logger = _configure()
        values = {name: str(value)[:_MAX_LINE] for name, value in values.items()}
        getattr(self._logger, level)(event, **values)

    def fault(self, where: str, fault: BaseException) -> None:
        """Write a bug of ours with its traceback, without local variables."""
        self.line("error", "a bug of ours", where=where, fault=repr(fault), trace=_trace(fault))


def _trace(fault: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(fault))


def _configure() -> object:
    import structlog

    person = sys.stderr.isatty()
    render: Callable[..., Any] = (
        structlog.dev.ConsoleRenderer() if person else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
    )
