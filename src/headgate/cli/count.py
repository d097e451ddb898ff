"""`headgate count`: tokens, offline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from headgate.cli import compose
from headgate.cli.exits import Failed
from headgate.cli.options import config_option, env_option, examples, json_option, prices_option
from headgate.cli.output import counted, print_json, print_table
from headgate.wire.messages import inspect

if TYPE_CHECKING:
    from headgate.cli.pricing import Priced
    from headgate.money.tokens import Count

_MODEL: Final = "gpt-4o"


class Source(msgspec.Struct, frozen=True):
    """What is counted: a text, or the members of a chat request."""

    text: str = ""
    members: dict[str, Any] | None = None


@examples(
    'count "你好，世界"',
    "count --file essay.txt --model gpt-4 --stats",
    "count --messages request.json --json",
    "cat essay.txt | {me} count",
)
@click.command(name="count")
@click.argument("text", required=False)
@click.option("--file", "file", metavar="FILE", help="Count a text file.")
@click.option(
    "--messages", metavar="FILE", help="Count a conversation: a JSON list of messages, or a whole request."
)
@click.option("--model", metavar="NAME", help=f"As this model counts. [default: {_MODEL}]")
@click.option("--provider", metavar="NAME", help="The model's provider, where its name does not tell.")
@click.option("--stats", is_flag=True, help="Also tokens per 汉字, word and character.")
@config_option
@env_option
@prices_option
@json_option
def command(
    text: str | None, file: str | None, messages: str | None, stats: bool, as_json: bool, **given: str | None
) -> None:
    """Count the tokens of TEXT, of a file, of a conversation, or of what is piped in.

    Exact for OpenAI's models, else an estimate; with what they cost as input. Nothing leaves this machine.
    """
    from headgate.cli.pricing import Shelf

    source = _source(text, file, messages)
    name = given.pop("model") or (source.members or {}).get("model") or _MODEL
    provider = given.pop("provider")
    shelf = Shelf(compose.settings(**given))  # type: ignore[arg-type]  # `env_file` has a default
    priced = shelf.find(name, provider)
    count = _count(priced, source)
    figures = _figures(source.text, count.tokens) if stats else {}
    if as_json:
        print_json({**_public(priced, count), **figures})
    else:
        _print(priced, count, figures)


def _source(text: str | None, file: str | None, messages: str | None) -> Source:
    given = [value for value in (text, file, messages) if value is not None]
    if len(given) > 1:
        raise click.UsageError("Give one thing to count: TEXT, --file or --messages.")
    if messages is not None:
        return _conversation(_read(messages))
    if file is not None:
        return Source(_read(file))
    if text is None or text == "-":
        if sys.stdin.isatty():
            raise click.UsageError("Give a text to count, or --file, --messages, or pipe something in.")
        return Source(_read("-"))
    return Source(text)


def _read(name: str) -> str:
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return content.decode("utf-8")
    except OSError as fault:
        raise Failed(f"Cannot read {name}: {fault.strerror}.") from fault
    except UnicodeDecodeError as fault:
        raise Failed(f"{name} is not UTF-8 text: {fault.reason} at byte {fault.start}.") from fault


def _conversation(content: str) -> Source:
    try:
        decoded = msgspec.json.decode(content)
    except msgspec.DecodeError as fault:
        raise Failed(f"The conversation is not JSON: {fault}.") from fault
    members = {"messages": decoded} if isinstance(decoded, list) else decoded
    rows = members.get("messages") if isinstance(members, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Failed('A conversation is a list such as [{"role": "user", "content": "Hello"}].')
    inspect(msgspec.json.encode(rows))  # what OpenAI would refuse has no count
    return Source(members=members)


def _count(priced: Priced, source: Source) -> Count:
    from headgate.money.tokens import Tokenizers

    tokenizers = Tokenizers()
    if priced.model.tokenizer:
        tokenizers.load_now(priced.model.tokenizer)
    if source.members is not None:
        return tokenizers.count_chat(priced.model, source.members["messages"], source.members)
    return tokenizers.count_input(priced.model, "embeddings", {"input": source.text})


def _figures(text: str, tokens: int) -> dict[str, float | int]:
    from headgate.cli.ratios import count_hanzi, count_words

    hanzi, words = count_hanzi(text), count_words(text)
    figures: dict[str, float | int] = {"characters": len(text), "hanzi": hanzi, "words": words}
    if text:
        figures["tokens_per_character"] = round(tokens / len(text), 3)
    # A mixed text has no such ratio: its tokens are of both.
    if hanzi and not words:
        figures["tokens_per_hanzi"] = round(tokens / hanzi, 3)
    if words and not hanzi:
        figures["tokens_per_word"] = round(tokens / words, 3)
    return figures


def _public(priced: Priced, count: Count) -> dict[str, object]:
    from headgate.cli.pricing import public_prices

    return {
        "model": priced.model.name,
        "provider": priced.provider,
        "tokens": count.tokens,
        "exact": count.exact,
        "at_most": count.bound,
        "cost_nano_usd": _cost(priced, count),
        "context_window": priced.window,
        "prices": public_prices(priced.row),
    }


def _cost(priced: Priced, count: Count) -> int | None:
    from headgate.money.cost import cost
    from headgate.values import Usage

    return None if priced.row is None else cost(Usage(count.tokens), priced.row.prices)


def _print(priced: Priced, count: Count, figures: dict[str, float | int]) -> None:
    from headgate.cli.pricing import provenance
    from headgate.money.amounts import format_usd

    how = "exact" if count.exact else f"an estimate, at most {count.bound:,}"
    click.echo(f"{counted(count.tokens, 'token')} for {priced.model.name} ({how})")
    due = _cost(priced, count)
    if due is not None and priced.row is not None:
        click.echo(f"{format_usd(due)} as input: {provenance(priced.row)}")
    if priced.window:
        click.echo(f"{count.tokens / priced.window:.1%} of its window of {priced.window:,} tokens")
    if figures:
        print_table(
            ("figure", "value"),
            [(name.replace("_", " "), f"{value:,}") for name, value in figures.items()],
            numbers=(1,),
        )
