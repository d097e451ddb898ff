"""`headgate worker`."""

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
    "worker --config headgate.toml --data /srv/headgate-worker",
    "worker --config headgate.toml --data ./worker-2 --port 8788",
)
@click.command(name="worker")
@click.option("--host", metavar="H", help="Address of health and metrics. [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), metavar="P", help="Port of them. [default: 8787]")
@data_option
@config_option
@click.option("--workers", type=click.IntRange(1, 64), metavar="N", help="Processes. [default: 1]")
@prices_option
@env_option
@click.pass_context
def command(context: click.Context, /, **given: object) -> None:
    """Run batches until Ctrl-C, and take no calls.

    For many machines: each has a data folder of its own, with the pepper of the others, and the same
    storage.database and files.storage. Where storage.queue is set it is called when there is work; else
    it looks each half second.
    """
    import msgspec

    from headgate.config import ServeOptions
    from headgate.serving import serve

    given |= {"config": given.pop("config_file"), "database": chosen_database(), "worker": True}
    context.exit(serve(msgspec.convert(given, ServeOptions)))
