"""`headgate sim`."""

from __future__ import annotations

import tempfile

import click

from headgate.cli.options import examples

_PORT = 8788


@examples("sim", "sim --port 9001", "sim --data ./sim-data    # keeps its key and its books")
@click.command(name="sim")
@click.option("--host", metavar="H", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="P", default=_PORT, show_default=True, help="Port."
)
@click.option("--data", metavar="DIR", help="Data folder. [default: a new one, removed at the end]")
@click.pass_context
def command(context: click.Context, host: str, port: int, data: str | None) -> None:
    """Run the simulator alone: it answers every call, whatever providers are configured.

    Models named sim-… answer with a fault: sim-429, sim-500, sim-503 and more.
    """
    from headgate.config import ServeOptions
    from headgate.serving import serve

    options = ServeOptions(host=host, port=port, data=data, simulate=True, env_file="")
    if data is not None:
        context.exit(serve(options))
    with tempfile.TemporaryDirectory(prefix="headgate-sim-") as folder:
        code = serve(ServeOptions(host=host, port=port, data=folder, simulate=True, env_file=""))
    context.exit(code)
