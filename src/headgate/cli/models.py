"""`headgate models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headgate.cli import compose
from headgate.cli.modelfilters import Filters, filter_options, nothing_found
from headgate.cli.options import config_option, env_option, examples, json_option, prices_option
from headgate.cli.output import print_json
from headgate.program import advise

if TYPE_CHECKING:
    from headgate.cli.pricing import Shelf

_SETTINGS = ("config_file", "env_file", "prices")
_MOST_COLUMNS = 8


@examples(
    "models",
    "models gpt-5 --current",
    "models --all --capability schema --modality image --min-context 200k --max-price 1",
    "models --provider gemini --modality out:image",
    "models --deprecated",
    "models --compare gpt-6-luna claude-haiku-4-5 deepseek-flash",
    "models --all claude --json",
)
@click.command(name="models")
@click.argument("words", nargs=-1, metavar="[WORD]...")
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Of this one. May be repeated.")
@click.option("--all", "everywhere", is_flag=True, help="Of every provider that is known.")
@filter_options
@click.option("--compare", is_flag=True, help="Show the models WORD... side by side.")
@config_option
@env_option
@prices_option
@json_option
def command(
    words: tuple[str, ...],
    providers: tuple[str, ...],
    everywhere: bool,
    compare: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """List the models whose names contain each WORD, with windows, abilities, prices and their end.

    They are those of the providers that are configured here, else of OpenAI, which the simulator plays.
    """
    from headgate.cli.modelviews import print_models, public
    from headgate.cli.pricing import Shelf

    shelf = Shelf(compose.settings(**{name: given.pop(name) for name in _SETTINGS}))
    if compare:
        _compare(shelf, words, providers[0] if providers else None, as_json=as_json)
        return
    if everywhere:
        providers = shelf.providers()
    filters, now = Filters(**given), compose.CLOCK.wall()
    found = [
        priced
        for provider in providers or shelf.default_providers()
        for name in _names(shelf, provider)
        if all(word.lower() in name.lower() for word in words)
        if filters.take(priced := shelf.at(provider, name), now)
    ]
    if not found:
        raise nothing_found(advise("models --all"), shelf.book.data.providers)
    if as_json:
        print_json([public(priced) for priced in found])
    else:
        print_models(found)


def _names(shelf: Shelf, provider: str) -> list[str]:
    from headgate.routing.routes import bounded

    names = list(shelf.all_names(provider))
    host = next((host for host in shelf.config.hosts if host.name == provider), None)
    if host is not None:
        names = list(bounded(host, names))
    if provider in shelf.default_providers():
        names += [name for name in shelf.config.routes if name not in names]
    return names


def _compare(shelf: Shelf, words: tuple[str, ...], provider: str | None, *, as_json: bool) -> None:
    from headgate.cli.modelviews import print_side_by_side, public

    if not 2 <= len(words) <= _MOST_COLUMNS:
        raise click.UsageError(f"Name 2 to {_MOST_COLUMNS} models: --compare gpt-6-luna deepseek-flash.")
    found = [shelf.find(word, provider) for word in words]
    if as_json:
        print_json([public(priced) for priced in found])
    else:
        print_side_by_side(found)
