"""A provider that streams a token each tenth of a second, for as many tokens as the last message says."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.caps.provider import TOKEN, chunk, envelope, event
from tests.local import LocalProvider

GAP_S = 0.1
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Provider(LocalProvider):
    """The upstream, in the loop of the test; it keeps how many tokens each call was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: dict[str, int] = {}

    async def answer(
        self, path: str, headers: dict[str, str], asked: dict[str, Any], writer: asyncio.StreamWriter
    ) -> None:
        name, tokens = headers["x-client-request-id"], int(asked["messages"][-1]["content"])
        writer.write(_HEAD)
        for number in range(1, tokens + 1):
            reason = "stop" if number == tokens else None
            choice = {"index": 0, "delta": {"content": TOKEN}, "finish_reason": reason}
            event(writer, envelope("chat.completion.chunk", choices=[choice]))
            self.sent[name] = number
            await writer.drain()
            await asyncio.sleep(GAP_S if number < tokens else 0)
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
        event(writer, envelope("chat.completion.chunk", choices=[], usage=usage))
        chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
