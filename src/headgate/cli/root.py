"""The root command: which commands there are, and where each one is."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from headgate import __version__
from headgate.cli.exits import CODES, speaking, telling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# name: (module, what it does). The second is shown by --help, which so imports no command.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "serve": ("headgate.cli.serve", "Run the gateway."),
    "worker": ("headgate.cli.worker", "Run batches on a machine of their own."),
    "chat": ("headgate.cli.chat", "Talk to a model through a running gateway."),
    "batch": ("headgate.cli.batch", "Run many prompts at half price, and follow batches."),
    "count": ("headgate.cli.count", "Count tokens, offline."),
    "cost": ("headgate.cli.cost", "Say what calls cost."),
    "models": ("headgate.cli.models", "List models: windows, abilities, prices, their end."),
    "route": ("headgate.cli.route", "Show which target a described call takes, and why."),
    "prices": ("headgate.cli.prices", "Show what changed between price books."),
    "accounts": ("headgate.cli.accounts", "Open, change and close accounts: who pays."),
    "projects": ("headgate.cli.projects", "Make projects, and say who is in them."),
    "members": ("headgate.cli.members", "Take people and service accounts in, with roles."),
    "keys": ("headgate.cli.keys", "Create, change, rotate and revoke keys."),
    "limits": ("headgate.cli.limits", "Limit requests, tokens and calls at once."),
    "budgets": ("headgate.cli.budgets", "Cap accounts, projects and keys; say what is spent."),
    "tiers": ("headgate.cli.tiers", "Show tiers, choose an account's, decide wishes."),
    "credit": ("headgate.cli.credit", "Show, give, take, refund and redeem credit."),
    "files": ("headgate.cli.files", "Bring, list, fetch and delete files."),
    "secrets": ("headgate.cli.secrets", "Keep providers' keys in the database, sealed."),
    "audit": ("headgate.cli.audit", "Read what was done and refused, by whom."),
    "events": ("headgate.cli.events", "Read what happened by itself: caps that fill up, old keys."),
    "status": ("headgate.cli.status", "Show how the providers do."),
    "usage": ("headgate.cli.usage", "Show what was used and what it cost."),
    "ledger": ("headgate.cli.ledger", "Prove the books."),
    "config": ("headgate.cli.config", "Check the configuration."),
    "doctor": ("headgate.cli.doctor", "Find out what is wrong, and what to do."),
    "sim": ("headgate.cli.sim", "Run the simulator, to test other people's clients."),
    "db": ("headgate.cli.db", "Migrate the database."),
    "completion": ("headgate.cli.completion", "Print a script for your shell's tab key."),
}


_HELP: Final = """Headgate: the ChatGPT API outside, any provider inside, exact books.

\b
First answer:  headgate serve
then:          headgate chat "Hello"
"""


_AS_JSON: Final = f"{__name__}.as_json"


class LazyGroup(click.Group):
    """A group whose commands are imported when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the table."""
        del ctx  # the table is the same for everyone
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; propose one for a name that is nearly right."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            advice = f" Did you mean `{near[0]}`?" if near else " `headgate --help` lists the commands."
            ctx.fail(f"No such command {args[0]!r}.{advice}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, says) for name, (_, says) in COMMANDS.items()])

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the options of the root itself."""
        as_json = _asks_for_json(args)  # click takes the words out of the list as it reads them
        with telling(as_json):
            context = super().make_context(info_name, args, parent, **extra)
        context.meta[_AS_JSON] = as_json
        return context

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; its errors become messages."""
        with telling(ctx.meta[_AS_JSON]), speaking():
            return super().invoke(ctx)


def _asks_for_json(args: Sequence[str]) -> bool:
    """Say whether `--json` stands among the options."""
    return "--json" in (args[: args.index("--")] if "--" in args else args)


@click.group(
    cls=LazyGroup,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=CODES,
)
@click.version_option(__version__, "-V", "--version", message="headgate %(version)s")
def cli() -> None:
    """Run one of the commands."""
