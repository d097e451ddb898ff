"""A provider of sessions on a real socket, and a caller of them: both by the `websockets` library."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from tests.faults.worker import Worker
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

MODEL = "gpt-realtime"
Event = dict[str, Any]


def usage(given: int, made: int, *, heard: int = 0, spoken: int = 0, cached: int = 0) -> Event:
    """What a response has used, as OpenAI tells it."""
    return {
        "total_tokens": given + made,
        "input_tokens": given,
        "output_tokens": made,
        "input_token_details": {
            "text_tokens": given - heard,
            "audio_tokens": heard,
            "cached_tokens": cached,
            "cached_tokens_details": {"text_tokens": cached, "audio_tokens": 0},
        },
        "output_token_details": {"text_tokens": made - spoken, "audio_tokens": spoken},
    }


def session(**members: Any) -> Event:
    """The first event of a session."""
    told = {"type": "realtime", "model": MODEL, "max_output_tokens": "inf", **members}
    return {"type": "session.created", "event_id": "event_0", "session": told}


def begun(name: str = "resp_1") -> Event:
    return {"type": "response.created", "response": {"id": name, "status": "in_progress"}}


def word(text: str, name: str = "resp_1") -> Event:
    return {"type": "response.output_text.delta", "response_id": name, "delta": text}


def done(used: Event | None, name: str = "resp_1", status: str = "completed") -> Event:
    response = {"id": name, "status": status, "conversation_id": "conv_1", "usage": used}
    return {"type": "response.done", "response": response}


@dataclass
class Provider:
    """What a provider has seen."""

    base_url: str = ""
    heads: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    heard: list[Event] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)


Script = Callable[["Told"], Coroutine[Any, Any, None]]


class Told:
    """A provider's side of one session."""

    def __init__(self, provider: Provider, socket: ServerConnection) -> None:
        self._provider = provider
        self.socket = socket

    async def say(self, *events: Event) -> None:
        for event in events:
            await self.socket.send(json.dumps(event))

    async def hear(self, kind: str) -> Event:
        """Wait for an event of a kind."""
        async for message in self.socket:
            event = json.loads(message)
            self._provider.heard.append(event)
            if event["type"] == kind:
                return dict(event)
        raise AssertionError(f"the gateway closed before it said {kind}")

    async def answer(self, used: Event, *words: str) -> None:
        """Answer one request for a response."""
        await self.hear("response.create")
        await self.say(begun(), *map(word, words), done(used))


@contextlib.asynccontextmanager
async def provider(script: Script) -> AsyncIterator[Provider]:
    """Serve sessions, each by the script, then wait for the gateway to close."""
    seen = Provider()

    async def run(socket: ServerConnection) -> None:
        assert socket.request is not None
        seen.heads.append(dict(socket.request.headers.raw_items()))
        seen.paths.append(socket.request.path)
        try:
            await script(Told(seen, socket))
            await socket.wait_closed()
        finally:
            seen.closed.set()

    async with serve(run, "127.0.0.1", 0, max_size=None) as server:
        host, port = next(iter(server.sockets)).getsockname()[:2]
        seen.base_url = f"http://{host}:{port}/v1"
        yield seen


class Caller:
    """A caller's side of one session."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[Event] = []

    async def say(self, kind: str, **members: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **members}))

    async def hear(self, kind: str) -> Event:
        """Wait for an event of a kind."""
        async with asyncio.timeout(15):
            async for message in self.socket:
                event = json.loads(message)
                self.events.append(event)
                if event["type"] == kind:
                    return dict(event)
        raise AssertionError(f"closed before {kind}: {self.socket.close_code} {self.socket.close_reason}")

    async def ended(self) -> int:
        """Wait for the end; return its code."""
        async with asyncio.timeout(15):
            await self.socket.wait_closed()
        return self.socket.close_code or 0


@contextlib.asynccontextmanager
async def calling(gateway: Worker, model: str = MODEL, **options: Any) -> AsyncIterator[Caller]:
    """Open a session, with the key in a header."""
    host, port = gateway.address
    headers = {"Authorization": f"Bearer {gateway.key}"}
    options.setdefault("additional_headers", headers)
    url = f"ws://{host}:{port}/v1/realtime?model={model}"
    async with connect(url, max_size=None, proxy=None, **options) as socket:
        yield Caller(socket)
