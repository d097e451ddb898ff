"""A provider's key that is stored: it is what the provider is asked with, and follows its changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.faults.worker import Worker, chat
from tests.upstream import ScriptedUpstream

from headgate.app import App
from headgate.config import Config, ServeOptions, load
from headgate.identity.keys import mint_key
from headgate.ops.actors import LOCAL
from headgate.ops.desk import Desk
from headgate.ops.secrets import SecretOrder, remove_secret, rotate_kek, store_secret
from headgate.ports import SystemClock
from headgate.settings.upstreams import ConfigError
from headgate.stores.sql.admin import SqlAdminStore
from headgate.stores.sql.bootstrap import prepare
from headgate.stores.sql.database import connect
from headgate.vaults.envelope import new_kek, parse_kek

pytestmark = pytest.mark.anyio

SETTINGS = """
[server]
port = 0
drain_s = 1.0
[[providers]]
name = "openai"
base_url = "{url}"
api_key = "stored:openai"
"""


def settings(folder: Path, url: str, kek: str) -> Config:
    file = folder / "headgate.toml"
    file.write_text(SETTINGS.format(url=url))
    options = ServeOptions(config=str(file), data=str(folder / "data"), env_file="")
    return load(options, {"HEADGATE_KEK": kek} if kek else {})


@contextmanager
def desk_of(folder: Path) -> Iterator[Desk]:
    with closing(SqlAdminStore(folder / "data")) as store:
        yield Desk(store, SystemClock())


def put(desk: Desk, config: Config, value: str) -> None:
    order = SecretOrder(name="openai", value=value, host=config.hosts[0].base_url)
    store_secret(LOCAL, desk, config.keks, order)


async def asked_with(gateway: Worker, upstream: ScriptedUpstream, wanted: str | None) -> None:
    """Call until the provider is asked with a key, or with none."""
    async with asyncio.timeout(10):
        while True:
            await gateway.ask(chat())
            if upstream.requests[-1].get("authorization") == wanted:
                return
            await asyncio.sleep(0.05)


def test_a_start_without_the_secret_or_the_kek_is_refused(tmp_path: Path) -> None:
    url, kek = "http://127.0.0.1:9/v1", new_kek()
    pepper = prepare(tmp_path / "data", SystemClock().wall(), mint_key).pepper
    config = settings(tmp_path, url, kek)
    with pytest.raises(ConfigError, match="no stored secret 'openai'"):
        App(config, pepper, simulating=False)
    with desk_of(tmp_path) as desk:
        put(desk, config, "sk-first")
    with pytest.raises(ConfigError, match="set HEADGATE_KEK"):
        App(settings(tmp_path, url, ""), pepper, simulating=False)
    with pytest.raises(ConfigError, match="has been cleared"):
        App(settings(tmp_path, "http://127.0.0.1:10/v1", kek), pepper, simulating=False)


async def test_a_stored_key_is_sent_and_followed(tmp_path: Path) -> None:
    prepared = prepare(tmp_path / "data", SystemClock().wall(), mint_key)
    async with ScriptedUpstream() as upstream:
        config = settings(tmp_path, upstream.base_url, new_kek())
        with desk_of(tmp_path) as desk:
            put(desk, config, "sk-first")
            app = App(config, prepared.pepper, simulating=False)
            await app.start()
            try:
                await follow(Worker(app, prepared.first_key, tmp_path / "data"), upstream, desk, config)
            finally:
                await app.stop()


async def follow(gateway: Worker, upstream: ScriptedUpstream, desk: Desk, config: Config) -> None:
    await asked_with(gateway, upstream, "Bearer sk-first")
    put(desk, config, "sk-second")
    await asked_with(gateway, upstream, "Bearer sk-second")
    rotate_kek(LOCAL, desk, config.keks, parse_kek(new_kek()))  # the server has not got the new one
    await asyncio.sleep(0.5)
    await asked_with(gateway, upstream, "Bearer sk-second")
    remove_secret(LOCAL, desk, "openai")
    await asked_with(gateway, upstream, None)


async def test_settings_that_cannot_be_used_change_nothing(tmp_path: Path) -> None:
    pepper = prepare(tmp_path / "data", SystemClock().wall(), mint_key).pepper
    config = settings(tmp_path, "http://127.0.0.1:9/v1", new_kek())
    with desk_of(tmp_path) as desk:
        put(desk, config, "sk-first")
    app = App(config, pepper, simulating=False)
    before = app.config, app.routes
    with closing(connect(tmp_path / "data")) as sql:
        sql.execute("ALTER TABLE secrets RENAME TO gone")
    with pytest.raises(ConfigError, match="stored keys cannot be read"):
        await app._reconfigure(settings(tmp_path, "http://127.0.0.1:10/v1", new_kek()))
    assert (app.config, app.routes) == before
    app.journal.close()
    await app._notices.close()
