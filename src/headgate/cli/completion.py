"""`headgate completion`: a script for the shell's tab key."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from headgate.cli.options import examples


@examples(
    '{me} completion bash >> ~/.bashrc      # or: eval "$({me} completion bash)"',
    "completion zsh > ~/.zfunc/_headgate",
    "completion fish > ~/.config/fish/completions/headgate.fish",
)
@click.command(name="completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print a script that completes commands and options with the tab key."""
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(context.find_root().command, {}, "headgate", "_HEADGATE_COMPLETE").source()
    click.echo(script)
