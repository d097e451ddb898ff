"""Who is told how a link does, and links for tests."""

from __future__ import annotations

import asyncio

from tests.redis.server import RedisServer

from headgate.stores.redis.link import Link

STEM = "headgate:{test}:"


class Heard:
    def __init__(self) -> None:
        self.said: list[str] = []

    def lost(self, said: str) -> None:
        self.said.append(said)

    def found(self) -> None:
        self.said.append("found")


async def opened(redis: RedisServer, stem: str = STEM) -> Link:
    link = Link(redis.url, stem, Heard())
    await found(link)
    return link


async def found(link: Link) -> None:
    """Look until it is there: this machine may be busy."""
    async with asyncio.timeout(10):
        while not await link.look():
            await asyncio.sleep(0.1)
