"""`headgate serve`: from flags to a running process, and cleanly out of it."""

from __future__ import annotations

import asyncio
import gc
import signal
import sqlite3
import sys
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
import msgspec

from headgate.app import BOARDS, App
from headgate.banner import banner
from headgate.config import Config, ServeOptions, load
from headgate.http.server import reserve_address, try_address, widen_descriptors
from headgate.identity.keys import mint_key
from headgate.money.amounts import parse_cap
from headgate.observe.scoreboard import clear_boards
from headgate.ports import SystemClock
from headgate.process.collector import Collector
from headgate.settings.upstreams import ConfigError
from headgate.stores import breakers
from headgate.stores.live import bury, last_lacks, start_anew
from headgate.stores.sql.bootstrap import DEFAULT_ACCOUNT, prepare, put_flag_budget, put_meta
from headgate.stores.sql.database import Database, connect
from headgate.stores.sql.folder import lock_folder
from headgate.stores.sql.meters import SqlMeters
from headgate.stores.sql.nodes import enlist, served_node
from headgate.stores.sql.pepper import DataFolderError
from headgate.stores.sql.postings import expire
from headgate.stores.sql.probes import put_probes
from headgate.stores.sql.recovery import recover, recover_slot
from headgate.stores.sql.terms import put_terms
from headgate.supervisor import Crew, Post, Supervisor
from headgate.values import Book

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.stores.sql.connection import Connection
    from headgate.values import NanoUSD

EXIT_CONFIG, EXIT_DATA = 2, 3


def serve(options: ServeOptions) -> int:
    """Serve until a signal; return the exit code."""
    try:
        config = load(options)
        cap = parse_cap(config.budget.cap) if config.budget.cap else None
    except (ConfigError, ValueError) as fault:
        click.echo(f"headgate: {fault}", err=True)
        return EXIT_CONFIG
    try:
        return _serve(config, cap)
    except ConfigError as fault:
        click.echo(f"headgate: {fault}", err=True)
        return EXIT_CONFIG
    except DataFolderError as fault:
        click.echo(f"headgate: {fault}", err=True)
        return EXIT_DATA
    except sqlite3.Error as fault:
        click.echo(f"headgate: the database cannot be used: {fault}.", err=True)
        return EXIT_DATA
    except OSError as fault:
        click.echo(f"headgate: {_address_fault(config, fault)}", err=True)
        return EXIT_DATA


def _address_fault(config: Config, fault: OSError) -> str:
    server = config.server
    where, how = f"{server.host}:{server.port}", "with --port"
    monitor = f"{server.host}:{server.monitor_port}"
    if fault.filename == monitor:
        where, how = monitor, "as monitor_port under [server]"
    if fault.errno in {98, 48, 10048}:
        return f"{where} is taken by another program. Stop it, or choose another {how}."
    return f"cannot serve on {where}: {fault.strerror or fault}."


def _serve(config: Config, cap: tuple[NanoUSD, str] | None) -> int:
    if config.options.worker and not config.storage.database:
        raise ConfigError(
            "A worker runs the batches of a database that it shares: set storage.database to that of the "
            "gateway. On SQLite there is nothing to do: `headgate serve` runs its batches itself."
        )
    if config.options.worker and not config.files.storage:
        raise ConfigError(
            "A worker reads files that were brought to the gateway: set files.storage of both to a folder "
            "that they share, or to a bucket (s3://BUCKET/PREFIX)."
        )
    place = Database(Path(config.storage.data), config.storage.database)
    folder, clock = place.folder, SystemClock()
    prepared = prepare(place, clock.wall(), mint_key)
    with lock_folder(folder):
        if config.server.monitor_port:  # it is bound last, by one worker: better known before anything runs
            try_address(config.server.host, config.server.monitor_port)
        sql = connect(place, wait="managing")
        if not config.options.worker:  # what flags and settings say of money is said by who takes calls
            _put_caps(sql, cap, config, clock.wall())
            probing = parse_cap(config.probes.budget) if config.probes.every_s else None
            put_probes(sql, probing, config.budget.timezone, clock.wall())
            put_terms(sql, DEFAULT_ACCOUNT, config.terms, config.tiers, clock.wall())
        simulating = _simulating(sql, config)
        node = served_node(folder, config.storage.database, config.storage.node)
        if node:
            enlist(sql, folder, clock.wall())
        report = recover(folder, sql, clock, node=node)
        expire(sql, clock.wall())
        sql.close()
        if report.settled or report.estimated:
            click.echo(
                f"Recovered the last run: {report.settled} calls as they were settled, "
                f"{report.estimated} by estimate."
            )
        clear_boards(folder / BOARDS)
        start = Start(config, prepared.pepper, prepared.first_key, simulating)
        if config.server.workers == 1:
            return _loop(App(config, prepared.pepper, simulating=simulating), _at_terminal(start))
        return _serve_by_many(start, place, clock)


def _put_caps(sql: Connection, cap: tuple[NanoUSD, str] | None, config: Config, now: int) -> None:
    """Make the flag's budget what the flag says: play money has its own."""
    amount, unit = cap if cap is not None else (None, "month")
    for book in Book:
        put_flag_budget(sql, book, amount, unit, config.budget.timezone, now)


def _simulating(sql: Connection, config: Config) -> bool:
    """Say whether the simulator answers: never where a provider is, or ever was, configured."""
    if config.simulate:
        return True
    if config.hosts or config.has_file:
        put_meta(sql, "ever_had_provider", "1")
        return False
    row = sql.execute("SELECT value FROM meta WHERE name = 'ever_had_provider'").fetchone()
    return row is None or row[0] != "1"


class Start(NamedTuple):
    """What a worker is started with."""

    config: Config
    pepper: bytes
    first_key: str
    simulating: bool


class Station(NamedTuple):
    """Where a process serves: at a terminal of its own, or for a supervisor."""

    ready: Callable[[App], None]  # calls are served
    say: Callable[[str], None]
    post: Post | None = None


def _at_terminal(start: Start) -> Station:
    return Station(lambda app: click.echo(banner(app, start.first_key)), click.echo)


def _serve_by_many(start: Start, place: Database, clock: SystemClock) -> int:
    """Fork the workers and supervise them; each binds the same address."""
    if sys.platform == "win32":
        raise ConfigError("workers: Windows serves with one process. Leave it at 1.")
    server, storage = start.config.server, start.config.storage
    folder = place.folder
    node = served_node(folder, storage.database, storage.node)
    with reserve_address(server.host, server.port) as port:
        config = msgspec.structs.replace(start.config, server=msgspec.structs.replace(server, port=port))
        start = start._replace(config=config)

        def run(post: Post) -> int:
            own = config if post.slot == 0 else _unmonitored(config)
            app = App(own, start.pepper, simulating=start.simulating, slot=post.slot)
            station = Station(lambda app: post.ready(banner(app, start.first_key)), _say_nothing, post)
            return _loop(app, station)

        def replay(slot: int) -> bool:
            try:
                with closing(connect(place)) as sql:
                    recover_slot(folder, f"slot-{slot}", sql, clock, node=node)
                bury(folder, slot, clock.monotonic())
            except sqlite3.Error as fault:
                click.echo(f"The journal of worker {slot} cannot be booked yet: {fault}.", err=True)
                return False
            return True

        meters = SqlMeters(partial(connect, place), clock, click.echo)
        start_anew(folder, meters.load(), clock.monotonic())
        breakers.prepare(folder / BOARDS)
        gc.collect()
        gc.freeze()  # what every worker shares stays shared
        crew = Crew(
            count=server.workers,
            run=run,
            replay=replay,
            say=click.echo,
            stop_s=server.leave_s + server.drain_s,
        )
        code = Supervisor(crew, clock).serve()
        with suppress(sqlite3.Error):  # then what was kept in the last second stays
            meters.keep_last(last_lacks(folder, clock.monotonic()))
    click.echo("Stopped.")
    return code


def _unmonitored(config: Config) -> Config:
    """Return a worker's settings without the second listener, which is the first worker's."""
    return msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, monitor_port=0))


def _say_nothing(_text: str) -> None:
    """Leave it to the supervisor."""


def _loop(app: App, station: Station) -> int:
    widen_descriptors()
    factory = None
    if sys.platform != "win32":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_run(app, station))


async def _run(app: App, station: Station) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    names = (signal.SIGINT, signal.SIGTERM) if station.post is None else (signal.SIGTERM,)
    for name in names:
        try:
            loop.add_signal_handler(name, stop.set)
        except NotImplementedError:  # Windows
            signal.signal(name, lambda *_: loop.call_soon_threadsafe(stop.set))
    try:
        await app.start()
    except BaseException:  # a connection to the broker outlives being cancelled, and would keep us here
        await app.background.stop()
        raise
    if station.post is not None:
        _keep_in_touch(app, station.post, stop)
    station.ready(app)
    gc.collect()
    gc.freeze()
    app.background.spawn("collector", Collector(partial(_open_now, app)).run())
    await stop.wait()
    stop.clear()
    station.say(_leaving(app))
    cut = await _stop(app, stop)
    station.say(
        f"Stopped. Calls that were cut and settled for what they had produced: {cut}." if cut else "Stopped."
    )
    return 0


def _open_now(app: App) -> int:
    """Return how many calls and connections are open, and as many more as what the books lack is like.

    A settled call on its way there has some four objects, and two records.
    """
    return len(app.calls.runs) + app.server.edge.open_connections + app.journal.undrained_records // 16


def _leaving(app: App) -> str:
    """Return what is said when a signal comes."""
    open_calls, server = len(app.calls.runs), app.config.server
    if server.leave_s:
        return (
            f"Stopping. Calls are taken for {server.leave_s:g} s more, then the open ones have "
            f"{server.drain_s:g} s to end; Ctrl-C again cuts them."
        )
    said = (
        f"Stopping. Open calls: {open_calls}; they have {server.drain_s:g} s to end, Ctrl-C again cuts them."
    )
    return said if open_calls else "Stopping."


def _keep_in_touch(app: App, post: Post, stop: asyncio.Event) -> None:
    """Tell the supervisor each second that we live; stop when it does not."""
    loop = asyncio.get_running_loop()

    def orphaned() -> None:
        loop.remove_reader(post.orphaned)
        stop.set()

    async def beat() -> None:
        while True:
            await asyncio.sleep(1.0)
            post.beat()

    loop.add_reader(post.orphaned, orphaned)
    app.background.spawn("beat", beat())


async def _stop(app: App, again: asyncio.Event) -> int:
    """Stop in order; a second signal cuts the calls that are still open."""
    stopping = asyncio.create_task(app.stop())
    hurry = asyncio.create_task(again.wait())
    await asyncio.wait({stopping, hurry}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        app.leave.hurry()
        app.calls.cut()
    hurry.cancel()
    return await stopping
