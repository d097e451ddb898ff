"""Google's side of a video, on a real socket: an operation that ends when the test says so, then a file."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.upstream import Peer, Received, ScriptedUpstream, http_answer, json_answer

MODEL = "veo-3.1-fast-generate-preview"
OPERATION = f"models/{MODEL}/operations/op1"
FILE = b"\x00\x00\x00\x18ftypmp42" + bytes(200_000)
SETTINGS = """
[[providers]]
name = "google"
kind = "gemini"
base_url = "{base_url}"
api_key = "g-canary"
models = ["veo-*"]
[[prices.rows]]
model = "veo-*"
input = 0
output = 0
[prices.rows.units]
second = 0.1
"second:1080p" = 0.12
"""


class Maker:
    """What is asked, and what is answered. `end` is what the operation says when it is done."""

    def __init__(self) -> None:
        self.url = ""
        self.end: dict[str, Any] | None = None
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.asked: list[Received] = []

    @property
    def settings(self) -> str:
        return SETTINGS.format(base_url=self.url)

    @property
    def orders(self) -> list[Received]:
        return [request for request in self.asked if request.method == "POST"]

    def make(self) -> None:
        """Be done, with a video."""
        video = {"uri": f"{self.url}/files/f1:download?alt=media"}
        self.end = {"response": {"generateVideoResponse": {"generatedSamples": [{"video": video}]}}}

    async def answer(self, peer: Peer, request: Received) -> None:
        self.asked.append(request)
        if request.method == "POST" and self.refusal is not None:
            status, error = self.refusal
            await peer.send(json_answer({"error": error}, status))
        elif "/files/" in request.path:
            await peer.send(http_answer(FILE, 200, [("content-type", "video/mp4")]))
        else:
            done = {"done": True, **self.end} if self.end is not None and request.method == "GET" else {}
            await peer.send(json_answer({"name": OPERATION, **done}))


@contextlib.asynccontextmanager
async def maker() -> AsyncIterator[Maker]:
    """Serve as Google does."""
    made = Maker()
    async with ScriptedUpstream(made.answer) as upstream:
        made.url = upstream.base_url.replace("/v1", "/v1beta")
        yield made
