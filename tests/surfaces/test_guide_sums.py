"""The guide's own sums, through a running server: each call is made, booked and added up."""

import asyncio
import json
import re
import sys
from typing import cast

import anyio
import pytest
from tests.surfaces.conftest import Gateway

CONFIG = """
[[providers]]
name = "openai"
base_url = "http://127.0.0.1:{port}/v1"
api_key = "sk-provider"
"""
AT_ONCE = 16
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Framed(asyncio.Protocol):
    """Whoever is told each message with a length once it is whole."""

    def __init__(self) -> None:
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._came += data
        while (at := self._came.find(b"\r\n\r\n")) >= 0:
            end = at + 4 + int(LENGTH.search(self._came, 0, at + 2)[1])
            if len(self._came) < end:
                return
            message, self._came = self._came[:end], self._came[end:]
            self.told(message)

    def told(self, message: bytes) -> None:
        raise NotImplementedError


class FixedUpstream(Framed):
    """Answers every call with the same usage."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        usage = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
        choice = {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
        body = json.dumps({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage})
        self.answer = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()

    def told(self, message: bytes) -> None:
        self.transport.write(self.answer)


class Caller(Framed):
    """Asks so many times, one after another."""

    def __init__(self, request: bytes, times: int) -> None:
        super().__init__()
        self._request = request
        self._left = times
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(self._request)

    def told(self, message: bytes) -> None:
        self._left -= 1
        if not message.startswith(b"HTTP/1.1 200 "):
            self.done.set_exception(AssertionError(message))
        elif self._left:
            self.transport.write(self._request)
        else:
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("The gateway closed the connection."))


async def call(port: int, key: str, model: str, times: int) -> None:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "你好"}]}).encode()
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {key}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body
    loop = asyncio.get_running_loop()
    _, caller = await loop.create_connection(lambda: Caller(request, times), "127.0.0.1", port)
    await caller.done
    caller.transport.close()


@pytest.mark.parametrize(
    ("model", "given", "made", "calls", "nano_usd"),
    [
        ("gpt-3.5-turbo", 300, 200, 1_000, 850_000_000),
        ("gpt-4", 1_200, 800, 100, 8_400_000_000),
        ("gpt-3.5-turbo", 300, 200, 30 * 1_000, 25_500_000_000),
    ],
)
def test_a_sum_of_the_guide_is_right_to_the_nano_dollar(tmp_path, model, given, made, calls, nano_usd):
    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: FixedUpstream(given, made), "127.0.0.1", 0)
        (tmp_path / "headgate.toml").write_text(CONFIG.format(port=server.sockets[0].getsockname()[1]))
        start = asyncio.to_thread(Gateway, tmp_path, "--config", "headgate.toml", "--prices", "guide-2025")
        gateway = await start
        try:
            port = int(gateway.base.split(":")[2].split("/")[0])
            shares = [calls // AT_ONCE + (index < calls % AT_ONCE) for index in range(AT_ONCE)]
            await asyncio.gather(*(call(port, gateway.key, model, share) for share in shares))
            said = await asyncio.to_thread(gateway.command, "usage", "--json", "--by", "model")
            total = json.loads(said.stdout)["total"]
            assert (total["calls"], total["cost_nano_usd"]) == (calls, nano_usd)
            assert (total["input_tokens"], total["output_tokens"]) == (calls * given, calls * made)
            assert (await asyncio.to_thread(gateway.command, "ledger", "check")).returncode == 0
        finally:
            await asyncio.to_thread(gateway.stop)
            server.close()

    anyio.run(run, backend_options={"use_uvloop": sys.platform != "win32"})
