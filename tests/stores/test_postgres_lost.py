"""A PostgreSQL server that goes away, or freezes, in the middle of things."""

import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from urllib.parse import urlsplit

import pytest
from tests.postgres import fresh_database

pytestmark = pytest.mark.services("postgresql")


class Wire:
    """A way to the server that can be frozen, and cut: what is sent meanwhile waits, or is lost."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.open = threading.Event()
        self.open.set()
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", 5432))
                self.pairs.append((near, far))
                for one, other in ((near, far), (far, near)):
                    self._start(self._carry, one, other)

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                self.open.wait()
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        for pair in self.pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.open.set()
        self.cut()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join()
        for pair in self.pairs:
            for end in pair:
                end.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    with closing(Wire()) as made:
        yield made


@pytest.fixture
def url(wire: Wire) -> Iterator[str]:
    with fresh_database() as address:
        parts = urlsplit(address)
        yield parts._replace(netloc=f"root:secret@127.0.0.1:{wire.port}").geturl()


def opened(url: str):
    from headgate.stores.postgres.connection import Bounds, PostgresConnection

    return PostgresConnection(url, Bounds(0.3, 0.3))


def test_a_frozen_server_is_said_in_time_and_used_again_when_it_thaws(wire: Wire, url: str) -> None:
    with closing(opened(url)) as sql:
        assert sql.execute("SELECT 1").fetchone() == (1,)
        wire.open.clear()
        began = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match="does not answer in time"):
            sql.execute("SELECT 2")
        assert time.monotonic() - began < 3
        wire.open.set()
        assert sql.execute("SELECT 3").fetchone() == (3,)


@pytest.mark.parametrize("size", [1, 2_000_000])  # more than what is on the way takes
def test_a_server_that_freezes_while_rows_are_copied_is_said_in_time(wire: Wire, url: str, size: int) -> None:
    with closing(opened(url)) as sql:
        sql.define("CREATE TABLE things (id INTEGER PRIMARY KEY, what BLOB);")
        sql.insert_all("things", [(0, b"")])
        wire.open.clear()
        began = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match="does not answer in time"):
            sql.insert_all("things", [(number, b"x" * size) for number in range(1, 9)])
        assert time.monotonic() - began < 5
        wire.cut()
        wire.open.set()
        sql.insert_all("things", [(9, b"")])
        assert {number for (number,) in sql.execute("SELECT id FROM things")} == {0, 9}


def test_a_server_that_freezes_before_anybody_comes_is_said_in_time(wire: Wire, url: str) -> None:
    wire.open.clear()
    began = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="does not answer in time") as failed:
        opened(url)
    assert time.monotonic() - began < 8
    assert "secret" not in str(failed.value)


def test_a_connection_that_is_lost_in_a_transaction_refuses_all_until_it_is_undone(
    wire: Wire, url: str
) -> None:
    with closing(opened(url)) as sql:
        sql.define("CREATE TABLE things (id INTEGER PRIMARY KEY);")
        sql.execute("BEGIN IMMEDIATE")
        sql.execute("INSERT INTO things VALUES (1)")
        wire.cut()
        for _ in range(2):  # never outside of what was begun
            with pytest.raises(sqlite3.OperationalError):
                sql.execute("INSERT INTO things VALUES (2)")
        assert sql.in_transaction
        sql.execute("ROLLBACK")
        assert not sql.in_transaction
        assert sql.execute("SELECT count(*) FROM things").fetchone() == (0,)


def test_a_commit_whose_outcome_nobody_knows_is_an_error_and_can_be_looked_up(wire: Wire, url: str) -> None:
    with closing(opened(url)) as sql:
        sql.define("CREATE TABLE things (id INTEGER PRIMARY KEY);")
        sql.execute("BEGIN IMMEDIATE")
        sql.execute("INSERT INTO things VALUES (1)")
        wire.open.clear()
        with pytest.raises(sqlite3.OperationalError):
            sql.execute("COMMIT")
        assert not sql.in_transaction
        wire.open.set()
        for _ in range(100):  # the server may have it yet
            if sql.execute("SELECT count(*) FROM things").fetchone() == (1,):
                break
            time.sleep(0.02)
        sql.execute("BEGIN IMMEDIATE")
        sql.execute("INSERT INTO things VALUES (1) ON CONFLICT DO NOTHING")
        sql.execute("COMMIT")
        assert sql.execute("SELECT count(*) FROM things").fetchone() == (1,)


def test_a_writer_that_is_frozen_in_its_transaction_is_thrown_out(wire: Wire, url: str) -> None:
    from headgate.stores.postgres.connection import Bounds, PostgresConnection

    frozen = PostgresConnection(url, Bounds(0.3, 0.3, idle_s=1.5))
    with closing(frozen), closing(opened(url)) as sql:
        frozen.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            sql.execute("BEGIN IMMEDIATE")
        time.sleep(1.6)
        sql.execute("BEGIN IMMEDIATE")
        sql.execute("ROLLBACK")
        with pytest.raises(sqlite3.OperationalError):
            frozen.execute("SELECT 1")


@pytest.mark.anyio
async def test_it_is_never_asked_where_an_event_loop_runs(url: str) -> None:
    with pytest.raises(RuntimeError, match="in threads"):
        opened(url)
