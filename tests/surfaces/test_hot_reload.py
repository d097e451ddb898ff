"""The settings' file is changed while the gateway serves."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.surfaces.conftest import Gateway
from tests.upstream import ScriptedUpstream

from headgate.config import Config, ServeOptions, load
from headgate.observe.log import Log
from headgate.process.configwatch import ConfigWatch


def settings(base: str, model: str = "first", more: str = "") -> str:
    return (
        f'[[providers]]\nname = "corp"\nbase_url = "{base}"\napi_key = "k"\nmodels = ["none-*"]\nlocal = true\n'
        f'[[models]]\nname = "{model}"\ntargets = [{{provider = "corp", model = "m"}}]\n{more}'
    )


@contextmanager
def gateway(folder: Path, toml: str, *args: str) -> Iterator[tuple[Gateway, Callable[[str], None]]]:
    path = folder / "headgate.toml"
    path.write_text(toml)
    made = Gateway(folder, "--config", str(path), *args)

    def change(text: str) -> None:
        fresh = folder / "fresh.toml"
        fresh.write_text(text)
        fresh.replace(path)  # as editors and deployments do it

    try:
        yield made, change
    finally:
        made.stop()
    assert made.command("ledger", "check").returncode == 0


def ask(made: Gateway, model: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    request = urllib.request.Request(
        made.base + "/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {made.key}", "content-type": "application/json", "connection": "close"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_models_and_providers_follow_the_file_and_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    with (
        ScriptedUpstream() as one,
        ScriptedUpstream() as two,
        gateway(tmp_path, settings(one.base_url)) as (made, change),
    ):
        assert (ask(made, "first"), ask(made, "second")) == (200, 404)
        change(settings(two.base_url, "second"))
        until(lambda: ask(made, "second") == 200)
        assert ask(made, "first") == 404
        assert (len(one.requests), len(two.requests) > 0) == (1, True)
        change("[[providers]]\nname = 7")
        time.sleep(2.5)
        assert ask(made, "second") == 200
        change(settings(one.base_url, "third", "[aliases]\nfourth = 'third'\n[server]\ndrain_s = 1.0\n"))
        until(lambda: ask(made, "fourth") == 200)
        made.process.terminate()
        said = [json.loads(line) for line in made.process.communicate(timeout=30)[1].splitlines()]
    events = [line["event"] for line in said]
    assert events == [
        "the changed settings are in force",
        "the changed settings are not used; the old ones stay",
        "the changed settings are in force",
        "these settings wait for the next start",
    ]
    assert said[-1]["settings"] == "server"


@pytest.mark.anyio
async def test_a_file_that_is_still_being_written_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "headgate.toml"
    before, after = settings("http://127.0.0.1:1"), settings("http://127.0.0.1:1", "second")
    path.write_text(before)
    used: list[list[str]] = []

    async def use(config: Config) -> None:
        used.append(list(config.routes))

    watch = ConfigWatch(load(ServeOptions(config=str(path), env_file=""), {}), use, Log())
    for text in ("", after[: after.index("[[models]]")], after):  # each of them could be used
        path.write_text(text)
        step = asyncio.ensure_future(watch.step())
        await asyncio.sleep(0)
    await step
    assert used == [["second"]]
    await watch.step()
    assert len(used) == 1


class Heard(Log):
    """A log that keeps why something was not done."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.waiting = ""

    def line(self, level: str, event: str, **values: object) -> None:
        if level == "error":
            self.faults.append(f"{event}: {values['fault']}")
        self.waiting += str(values.get("settings", ""))


class Watched:
    """A file that is followed, and what came of each change."""

    def __init__(self, folder: Path, text: str, env: str = "") -> None:
        self.file, self.env = folder / "headgate.toml", folder / "env"
        self.file.write_text(text)
        self.env.write_text(env)
        self.used: list[list[str]] = []
        self.log = Heard()
        options = ServeOptions(config=str(self.file), env_file=str(self.env))
        self._watch = ConfigWatch(load(options, {}), self._use, self.log)

    async def _use(self, config: Config) -> None:
        self.used.append([host.name for host in config.hosts])

    async def write(self, text: str, env: str | None = None) -> str:
        """Change the file, and `.env`; return why it is not used, empty: it is."""
        self.file.write_text(text)
        if env is not None:
            self.env.write_text(env)
        self.log.faults.clear()
        await self._watch.step()
        return "".join(self.log.faults)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "emptied", ["", "\n\n", "# headgate.toml\n", "[server]\n", "[budget]\ncap = '5/day'\n"]
)
async def test_a_file_that_lost_its_providers_is_not_used_unless_it_says_so(
    emptied: str, tmp_path: Path
) -> None:
    whole = settings("http://127.0.0.1:1")
    watched = Watched(tmp_path, whole)
    why = await watched.write(emptied)
    assert "headgate.toml" in why
    assert "write `providers = []` into it" in why
    assert watched.used == []
    assert await watched.write(whole + "# again\n") == ""
    assert watched.used == [["corp"]]
    assert await watched.write("providers = []\n") == ""
    assert watched.used == [["corp"], []]
    assert await watched.write(emptied or " ") == ("" if "[" in emptied else why), (
        "what is gone was meant to be"
    )


@pytest.mark.anyio
async def test_providers_that_moved_to_the_environment_are_not_lost(tmp_path: Path) -> None:
    watched = Watched(tmp_path, settings("http://127.0.0.1:1") + "[server]\nport = 0\n", "X=1\n")
    assert await watched.write("[server]\nport = 0\n", "GROQ_API_KEY=k\n") == ""
    assert watched.used == [["groq"]]
    why = await watched.write("[server]\nport = 0\n", "# nothing\n")
    assert "no provider is left by" in why
    assert "has no setting left" in await watched.write("", "GROQ_API_KEY=k\n")
    assert watched.used == [["groq"]]


@contextmanager
def unwritten(pipe: Path) -> Iterator[Callable[[], int]]:
    """A pipe on which nothing is written yet; what it gives waits for its reader and returns where to write."""
    os.mkfifo(pipe)
    ends: list[int] = []

    def reader() -> int:
        until(opened)
        return ends[0]

    def opened() -> bool:
        with suppress(OSError):  # nobody reads it
            ends.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(ends)

    try:
        yield reader
    finally:
        for end in ends:
            os.close(end)


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are POSIX")
def test_calls_are_answered_while_a_key_is_still_being_read(tmp_path: Path) -> None:
    pipe = tmp_path / "key"
    with (
        ScriptedUpstream() as one,
        ScriptedUpstream() as two,
        gateway(tmp_path, settings(one.base_url)) as (made, change),
    ):
        with unwritten(pipe) as reader:
            change(settings(two.base_url, "second").replace('"k"', f'"file:{pipe}"'))
            end = reader()
            assert [ask(made, model) for model in ("first", "second") * 3] == [200, 404] * 3
            os.write(end, b"sk-from-the-pipe\n")
        until(lambda: ask(made, "second") == 200)
        assert ask(made, "first") == 404
        assert {request.get("authorization") for request in one.requests} == {"Bearer k"}
        assert {request.get("authorization") for request in two.requests} == {"Bearer sk-from-the-pipe"}


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are POSIX")
def test_a_key_that_never_comes_does_not_keep_the_gateway_from_stopping(tmp_path: Path) -> None:
    pipe = tmp_path / "key"
    with (
        ScriptedUpstream() as one,
        gateway(tmp_path, settings(one.base_url)) as (made, change),
        unwritten(pipe) as reader,
    ):
        change(settings(one.base_url, "second").replace('"k"', f'"file:{pipe}"'))
        reader()
        assert made.stop()[0] == 0


@pytest.mark.anyio
@pytest.mark.parametrize(("port", "said"), [("0", False), ("8788", True)])
async def test_another_port_is_said_to_wait_for_the_next_start(port: str, said: bool, tmp_path: Path) -> None:
    whole = settings("http://127.0.0.1:1")
    watched = Watched(tmp_path, whole)
    assert await watched.write(whole + f"[server]\nport = {port}\n") == ""
    assert ("server" in watched.log.waiting.split(", ")) is said
