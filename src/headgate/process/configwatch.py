"""Follow the configuration's file while the process serves.

The file and `.env` are looked at each second. What changed is read once nobody writes it any more, and
whole; one that is wrong is refused whole, and said once. So is one that takes all providers away without a
word: it is half written, or a mistake, far more often than a wish. A call goes on with the table of models
that it began with.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from headgate.config import load
from headgate.settings.upstreams import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headgate.config import Config, ServeOptions
    from headgate.observe.log import Log

_EVERY_S: Final = 1.0
_WRITTEN_S: Final = 0.25  # editors empty a file before they write it; one that rests so long is whole
FOLLOWED: Final = ("hosts", "routes", "aliases", "prices", "deadlines", "key_rules", "demands")
_SAID_OF: Final = ("found", "ignored", "has_file", "tables", "options")  # nothing is done by them
Print: TypeAlias = tuple[tuple[int, int, int], ...]  # what tells that files are others


class ConfigWatch:
    """Look at the files of a configuration.

    Args:
        config: as it was read at the start.
        use: goes on with another one, or raises ConfigError.
        log: hears what was done.
    """

    def __init__(self, config: Config, use: Callable[[Config], Awaitable[None]], log: Log) -> None:
        self._config = config
        self._use = use
        self._log = log
        options = config.options
        self._paths = [Path(name) for name in (options.config, options.env_file) if name]
        self._print = self._look()

    async def run(self) -> None:
        """Look for as long as the process serves."""
        while True:
            await asyncio.sleep(_EVERY_S)
            await self.step()

    async def step(self) -> None:
        """Look once. The files are read in a thread: what they name may be slow, or never come."""
        found = self._look()
        if found == self._print:
            return
        await asyncio.sleep(_WRITTEN_S)
        if self._look() != found:
            return
        self._print = found
        try:
            read = await _read(self._config.options)
            _check_meant(self._config, read)
            config = msgspec.structs.replace(
                self._config, **{name: getattr(read, name) for name in (*FOLLOWED, "found", "tables")}
            )
            await self._use(config)
        except ConfigError as fault:
            self._log.line("error", "the changed settings are not used; the old ones stay", fault=str(fault))
            return
        waiting = _later(self._config, read)
        self._config = config
        names = [host.name for host in config.hosts]
        self._log.line("info", "the changed settings are in force", hosts=", ".join(names))
        if waiting:
            self._log.line("warning", "these settings wait for the next start", settings=", ".join(waiting))

    def _look(self) -> Print:
        return tuple(_print_of(path) for path in self._paths)


async def _read(options: ServeOptions) -> Config:
    """Read in a thread that no end of the process waits for: a file may be a pipe on which nobody writes.

    Raises:
        ConfigError: it cannot be used.
    """
    found: Future[Config] = Future()

    def read() -> None:
        try:
            config = load(options)
        except BaseException as fault:
            found.set_exception(fault)
            if not isinstance(fault, ConfigError):
                raise
        else:
            found.set_result(config)

    Thread(target=read, name="settings", daemon=True).start()
    return await asyncio.wrap_future(found)


def _check_meant(before: Config, after: Config) -> None:
    """See that what was taken away was meant to be.

    Raises:
        ConfigError: everything is gone from the file, or every provider, and the file does not say so.
    """
    file = after.options.config
    if before.tables and not after.tables:
        what = f"{file} has no setting left in it"
    elif before.hosts and not after.hosts and "providers" not in after.tables:
        what = f"no provider is left by {file} and the environment"
    else:
        return
    raise ConfigError(
        f"{what}: it was emptied by mistake, or is half written. Write it anew; a start would take it as it "
        "is. To serve without any provider of the file, write `providers = []` into it."
    )


def _print_of(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:  # a file that is being replaced, or that there is not
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _later(before: Config, after: Config) -> list[str]:
    """Return what differs and is read at the start alone."""
    names = [name for name in before.__struct_fields__ if name not in {*FOLLOWED, *_SAID_OF}]
    if not after.server.port:  # it has become a free one
        listening = msgspec.structs.replace(after.server, port=before.server.port)
        after = msgspec.structs.replace(after, server=listening)
    return [name for name in names if getattr(before, name) != getattr(after, name)]
