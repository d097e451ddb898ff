"""`headgate config`: is the configuration usable?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from headgate.cli import compose
from headgate.cli.exits import Failed
from headgate.cli.options import config_option, env_option, examples, json_option
from headgate.cli.output import print_json, print_table
from headgate.cli.promote import promote
from headgate.cli.redischeck import place_of
from headgate.program import without_password
from headgate.settings.upstreams import ConfigError

if TYPE_CHECKING:
    from headgate.config import Config
    from headgate.values import Deadlines


@examples("config check")
@click.group(name="config")
def command() -> None:
    """Check the configuration, and carry it from one environment to another."""


command.add_command(promote)


@examples("config check", "config check --config headgate.toml --json")
@command.command()
@config_option
@env_option
@json_option
def check(config_file: str | None, env_file: str, as_json: bool) -> None:
    """Read the configuration as `serve` would and say what it means. Exits 1 when it is not usable."""
    from headgate.money.amounts import format_usd, parse_cap

    try:
        config = compose.settings(config_file, env_file)
        cap = parse_cap(config.budget.cap) if config.budget.cap else None
    except (ConfigError, ValueError) as fault:
        raise Failed(str(fault)) from fault
    compose.price_book(config)
    unserved = compose.unserved(config)
    if as_json:
        print_json({**_public(config), "unserved": unserved})
        return
    server = config.server
    rows = [
        ("address", f"{server.host}:{server.port}"),
        ("data", config.storage.data),
        ("database", without_password(config.storage.database) or "SQLite in the data folder"),
        ("redis", place_of(config.storage)),
        ("queue", without_password(config.storage.queue) or "none: whoever serves runs batches"),
        ("files", config.files.storage or "in the data folder"),
        ("providers", ", ".join(config.found) or _nobody(config)),
        ("provider keys", _keyless(config)),
        ("left to clients", ", ".join(config.ignored) or "nothing"),
        ("models of the file", ", ".join(config.routes) or "none"),
        ("aliases", ", ".join(f"{name} is {model}" for name, model in config.aliases.items()) or "none"),
        ("cap", f"{format_usd(cap[0])} per {cap[1]}" if cap else "none"),
        ("prices", f"{config.prices.book}, {len(config.prices.rows)} own rows"),
        ("deadlines", _deadlines(config.deadlines)),
    ]
    print_table(("setting", "value"), rows)
    if unserved:
        click.echo(f"No provider here serves {', '.join(unserved)}: calls get 404. See `models --all`.")
    click.echo("The configuration can be used.")


def _nobody(config: Config) -> str:
    """Say who answers where no provider is configured."""
    played = [route.name for route in config.routes.values() if route.simulated]
    if played:
        return f"none: the simulator answers {', '.join(played)}; no other model is served"
    if config.has_file:
        return "none: calls get 503 until one is configured"
    return "none: the simulator answers in a new data folder"


def _keyless(config: Config) -> str:
    missing = [host.name for host in config.hosts if host.keyless]
    return f"missing for {', '.join(missing)}" if missing else "nothing is missing"


def _deadlines(of: Deadlines) -> str:
    return (
        f"connect {of.connect_s:g} s, first byte {of.first_byte_s:g} s, "
        f"between frames {of.between_frames_s:g} s, total {of.total_s:g} s"
    )


def _public(config: Config) -> dict[str, object]:
    """Return the settings without secrets."""
    hosts = [
        {
            "name": host.name,
            "base_url": host.base_url,
            "has_key": bool(host.api_key or host.tokens or host.signing),
            "local": host.local,
        }
        for host in config.hosts
    ]
    plain: dict[str, object] = msgspec.to_builtins(
        {
            "server": config.server,
            "storage": compose.storage_shown(config),
            "budget": config.budget,
            "models": list(config.routes),
            "aliases": dict(config.aliases),
            "deadlines": config.deadlines,
            "prices": config.prices.book,
            "found": config.found,
            "left_to_clients": config.ignored,
        }
    )
    return {**plain, "providers": hosts}
