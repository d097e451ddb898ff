from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys

import pytest
from tests.transport.asking import ask, http, said, target, until
from tests.upstream import ScriptedUpstream

from headgate.errors import UpstreamInterrupted, UpstreamTimeout
from headgate.transport import dial
from headgate.transport.egress import parse_origin


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def full_backlog():  # type: ignore[no-untyped-def]
    """A port where a connection is neither accepted nor refused."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.anyio
async def test_a_refused_connection_is_said_so_without_secrets() -> None:
    port = unused_port()
    async with http() as transport:
        with pytest.raises(UpstreamInterrupted) as caught:
            await transport.acquire(target(f"http://127.0.0.1:{port}/v1"))
        message = said(caught.value, f"127.0.0.1:{port}")
        assert message == "Could not connect to provider 'scripted': the connection was refused."
        assert caught.value.another_target


@pytest.mark.anyio
async def test_a_connection_that_hangs_ends_by_its_deadline() -> None:
    with full_backlog() as port:
        async with http() as transport:
            with pytest.raises(UpstreamTimeout) as caught:
                await transport.acquire(target(f"http://127.0.0.1:{port}/v1", connect_s=0.05))
            assert "within 0.05 s (connect_s)" in said(caught.value, f"127.0.0.1:{port}")


@pytest.mark.anyio
async def test_a_name_that_does_not_resolve_is_said_so() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def empty(host: str, port: int) -> list[str]:
        return []

    for resolve in (unknown, empty):
        async with http(resolve=resolve) as transport:
            with pytest.raises(UpstreamInterrupted) as caught:
                await transport.acquire(target("http://nowhere.example/v1"))
            assert "the name does not resolve" in said(caught.value, "nowhere.example:80")


@pytest.mark.anyio
async def test_a_resolver_that_hangs_is_asked_once_and_ends_by_the_deadline() -> None:
    asked = 0

    async def hanging(host: str, port: int) -> list[str]:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()
        return []

    async with http(resolve=hanging) as transport:
        to = target("http://slow.example/v1", connect_s=0.03)
        results = await asyncio.gather(*(transport.acquire(to) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(result, UpstreamTimeout) for result in results)
        assert asked == 1


@pytest.mark.anyio
async def test_a_dead_address_is_passed_over_and_the_good_one_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.2", "::1", "127.0.0.1", "127.0.0.1"]

    monkeypatch.setattr(dial, "_NEXT_ADDRESS_S", 0.5)
    async with ScriptedUpstream() as upstream, http(resolve=resolve, max_idle=0) as transport:
        to = target(f"http://several.example:{upstream.port}/v1")
        await ask(transport, to)
        assert transport._dialer._good == {"several.example": "127.0.0.1"}
        assert (await transport._dialer._addresses("several.example", 1))[0] == "127.0.0.1"
        await ask(transport, to)
        assert len(upstream.connections) == 2


@pytest.mark.anyio
async def test_a_silent_address_holds_up_the_next_one_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled = []

    async def connect(address: str) -> str:
        dialled.append(address)
        if address != "127.0.0.1":
            await asyncio.Event().wait()
        return "connected"

    monkeypatch.setattr(dial, "_NEXT_ADDRESS_S", 0.01)
    dialer = dial.Dialer(dial.system_resolve, dial.system_tls)
    assert await dialer._first(["::1", "127.0.0.2", "127.0.0.1"], "host", connect) == "connected"
    assert dialled == ["::1", "127.0.0.2", "127.0.0.1"]


def test_families_take_turns() -> None:
    order = dial._alternating(["a::1", "a::2", "a::3", "1.1.1.1", "a::1", "1.1.1.2"])
    assert order == ["a::1", "1.1.1.1", "a::2", "1.1.1.2", "a::3"]


@pytest.mark.anyio
async def test_the_system_resolver_finds_this_machine() -> None:
    async with ScriptedUpstream() as upstream, http() as transport:
        head, _ = await ask(transport, target(f"http://localhost:{upstream.port}/v1"))
        assert head.status == 200


@pytest.mark.anyio
async def test_connections_do_not_wait_for_more_bytes() -> None:
    async with ScriptedUpstream() as upstream, http() as transport:
        await ask(transport, target(upstream.base_url))
        await until(lambda: transport.idle == 1)
        (connection,) = transport.connections
        sock = connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_socks_library_is_loaded_only_where_it_is_used() -> None:
    script = "import sys, headgate.transport.http; print('python_socks' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


class Dialled(asyncio.Protocol):
    """Keeps the socket that it is connected by."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.socket = transport.get_extra_info("socket")


@pytest.mark.anyio
async def test_a_system_that_does_not_ask_costs_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "_KEEP_ALIVE", {"TCP_KEEPIDLE": 1 << 30})
    with socket.create_server(("127.0.0.1", 0)) as server:
        origin = parse_origin(f"http://127.0.0.1:{server.getsockname()[1]}")
        dialler, dialled = dial.Dialer(dial.system_resolve, dial.system_tls), Dialled()
        await dialler.open(dialled, origin, None)  # type: ignore[arg-type]
        assert not dialled.transport.is_closing()
        dialled.transport.close()
        await dialler.close()


@pytest.mark.anyio
async def test_the_system_asks_whether_a_silent_connection_is_alive() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        origin = parse_origin(f"http://127.0.0.1:{server.getsockname()[1]}")
        dialler, dialled = dial.Dialer(dial.system_resolve, dial.system_tls), Dialled()
        await dialler.open(dialled, origin, None)  # type: ignore[arg-type]
        assert dialled.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if sys.platform == "linux":
            asked = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT]
            assert [dialled.socket.getsockopt(socket.IPPROTO_TCP, each) for each in asked] == [60, 20, 3]
        dialled.transport.close()
        await dialler.close()
