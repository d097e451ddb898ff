"""A provider that says which version of the settings it was asked by."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.caps.provider import envelope
from tests.local import LocalProvider, send_json

_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


class Provider(LocalProvider):
    """The upstream, in the loop of the test; `halves` counts the requests of a version that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.halves = 0

    async def answer(
        self, path: str, headers: dict[str, str], asked: dict[str, Any], writer: asyncio.StreamWriter
    ) -> None:
        version = path.split("/")[1]
        same = f"m-{version}" == asked["model"] and headers["authorization"] == f"bearer key-{version}"
        self.halves += not same
        message = {"role": "assistant", "content": version}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        send_json(writer, json.dumps(envelope("chat.completion", choices=[choice], usage=_USAGE)).encode())
        await writer.drain()
