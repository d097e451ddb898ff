"""`headgate`, also as `python -m headgate`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from headgate import __version__

if TYPE_CHECKING:
    from headgate.cli.root import LazyGroup


def main() -> None:
    """Run the command line; exits with its code."""
    if sys.argv[1:] in (["--version"], ["-V"]):  # without click: a script may ask often
        sys.stdout.write(f"headgate {__version__}\n")
        return
    from headgate.cli.root import cli
    from headgate.program import invocation

    cli.main(prog_name=invocation(), complete_var="_HEADGATE_COMPLETE")


def __getattr__(name: str) -> LazyGroup:
    """Give `cli`, the root command, to those who document it; loading it takes click."""
    if name != "cli":
        raise AttributeError(name)
    from headgate.cli.root import cli

    return cli


if __name__ == "__main__":
    main()
