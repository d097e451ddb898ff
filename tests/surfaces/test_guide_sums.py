"""The guide's own sums, through a running server: each call is made, booked and added up."""

import asyncio
import json

import pytest
from tests.surfaces.conftest import Gateway

CONFIG = """
[[providers]]
name = "openai"
base_url = "http://127.0.0.1:{port}/v1"
api_key = "sk-provider"
"""
AT_ONCE = 16


class FixedUpstream:
    """Answers every call with the same usage."""

    def __init__(self, given: int, made: int) -> None:
        usage = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
        choice = {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
        body = json.dumps({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage})
        self.answer = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(self.answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def call(port: int, key: str, model: str, times: int) -> None:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "你好"}]}).encode()
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {key}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(times):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    writer.close()


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
        upstream = FixedUpstream(given, made)
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
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

    asyncio.run(run())
