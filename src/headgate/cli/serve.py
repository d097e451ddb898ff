"""`headgate serve`."""

from __future__ import annotations

import click

from headgate.cli.options import (
    chosen_database,
    config_option,
    data_option,
    env_option,
    examples,
    prices_option,
)


@examples(
    "serve",
    "serve --port 9000 --cap 20/month",
    "serve --mode prepaid",
    "serve --alias gpt-3.5-turbo=deepseek-flash",
    "serve --config headgate.toml --data /srv/headgate",
    "serve --database postgresql://headgate@127.0.0.1/headgate",
)
@click.command(name="serve")
@click.option("--host", metavar="H", help="Address to listen on. [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), metavar="P", help="Port. [default: 8787]")
@data_option
@config_option
@click.option("--workers", type=click.IntRange(1, 64), metavar="N", help="Processes. [default: 1]")
@click.option("--cap", metavar="USD[/PERIOD]", help="Hard spending cap: 20/month, 5/day, 100/total.")
@click.option(
    "--mode",
    type=click.Choice(["internal", "prepaid"]),
    help="internal: no credit needed. prepaid: accounts spend credit and nothing else. [default: internal]",
)
@prices_option
@click.option(
    "--alias", "aliases", multiple=True, metavar="NAME=MODEL", help="Serve NAME by MODEL. May be repeated."
)
@env_option
@click.pass_context
def command(context: click.Context, /, aliases: tuple[str, ...], **given: object) -> None:
    """Run the gateway until Ctrl-C.

    Providers are found by their usual variables (OPENAI_API_KEY, DEEPSEEK_API_KEY, ...), in the
    environment or in .env. Without any, the simulator answers, in play money. The first start prints
    a key, once.
    """
    import msgspec

    from headgate.config import ServeOptions
    from headgate.serving import serve

    given |= {"config": given.pop("config_file"), "database": chosen_database()}
    context.exit(serve(msgspec.convert({**given, "aliases": aliases}, ServeOptions)))
