"""`headgate chat`: talk to a model through a running gateway."""

from __future__ import annotations

import contextlib
import sys
import unicodedata
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from headgate.cli import compose
from headgate.cli.client import LOCAL_HOSTS, Client, Refused, Turn
from headgate.cli.exits import Failed, Unusable
from headgate.cli.keyless import key_for
from headgate.cli.options import data_option, examples, json_option
from headgate.cli.output import counted, print_json
from headgate.money.amounts import format_usd
from headgate.settings.upstreams import ConfigError
from headgate.values import Book, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.stores.sql.single import Charge

_MODEL: Final = "gpt-4o-mini"
_HELP: Final = "/new forgets the conversation, /model NAME changes the model, /exit or Ctrl-D ends."


@examples(
    'chat "Write a haiku about canals"',
    "chat --model gpt-4o",
    "cat essay.txt | {me} chat --system 'Summarise in one sentence.'",
    "chat --url https://gateway.example --key sk-hg-live-... Hello",
)
@click.command(name="chat")
@click.argument("prompt", nargs=-1)
@click.option("--model", metavar="NAME", default=_MODEL, show_default=True, help="Model to talk to.")
@click.option("--system", metavar="TEXT", help="System message.")
@click.option("--max-tokens", type=click.IntRange(1), metavar="N", help="Longest answer.")
@click.option("--temperature", type=click.FloatRange(0, 2), metavar="T", help="Between 0 and 2.")
@click.option(
    "--url", metavar="URL", default="http://127.0.0.1:8787", show_default=True, help="Running gateway."
)
@click.option(
    "--key", metavar="KEY", help="Headgate key. [default: $OPENAI_API_KEY if it is one, else a new one]"
)
@data_option
@json_option
def command(
    prompt: tuple[str, ...], url: str, key: str | None, data: str | None, as_json: bool, **wishes: Any
) -> None:
    """Talk to a model: one PROMPT, what is piped in, or turn by turn.

    Without a key of yours, one is made in the data folder of this machine's gateway and revoked at the
    end. Tokens and cost of each turn go to standard error: as the books have them, or, where the books are
    elsewhere, about what they cost by the price book here.
    """
    text = " ".join(prompt)
    if not text and not sys.stdin.isatty():
        text = sys.stdin.read().strip()
        if not text:
            raise click.UsageError("There is nothing to say: give a prompt.")
    with key_for(url, key, data, "chat") as presented:
        chat = Chat(Client(url, presented), data, wishes)
        if not text:
            _converse(chat)
        elif as_json:
            for _ in chat.say(text):
                pass
            print_json(chat.report())
        else:
            _show(chat, text)


class Chat:
    """A conversation: its history, and what it has cost so far."""

    def __init__(self, client: Client, data: str | None, wishes: dict[str, Any]) -> None:
        self.client = client
        self.turn = Turn()
        self.model: str = wishes["model"]
        self.cost: Charge | None = None
        self.estimate: int | None = None  # nano-USD, by the price book; where the books are elsewhere
        self.total = 0
        self._place = compose.place_of(data)
        self._system: str | None = wishes["system"]
        self._body = {
            name: wishes[name] for name in ("max_tokens", "temperature") if wishes[name] is not None
        }
        self._history: list[dict[str, str]] = []
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._history = [{"role": "system", "content": self._system}] if self._system else []

    def say(self, text: str) -> Iterator[str]:
        """Yield the answer as it comes; it joins the history when it is whole."""
        self.turn, self.cost, self.estimate = Turn(), None, None
        messages = [*self._history, {"role": "user", "content": text}]
        yield from self.client.stream({"model": self.model, "messages": messages, **self._body}, self.turn)
        self._history = [*messages, {"role": "assistant", "content": self.turn.text}]
        self.cost = self._charge()
        if self.cost is None:
            self.estimate = _price(self.turn)
        self.total += self.cost.amount if self.cost else self.estimate or 0

    def report(self) -> dict[str, object]:
        """Return the last turn for scripts."""
        return {
            "text": self.turn.text,
            "model": self.turn.model,
            "request_id": self.turn.request_id,
            "input_tokens": self.turn.input_tokens,
            "output_tokens": self.turn.output_tokens,
            "finish_reason": self.turn.finish,
            "simulated": self.turn.simulated,
            "cost_nano_usd": self.cost.amount if self.cost else None,
            "estimate_nano_usd": self.estimate,
        }

    def summary(self) -> str:
        """Return tokens and cost of the last turn for people."""
        said = f"{counted(self.turn.input_tokens, 'token')} in, {self.turn.output_tokens:,} out"
        due = self.cost.amount if self.cost is not None else self.estimate
        if due is not None:
            about = "about " if self.cost is None else ""
            play = " of play money" if self._played else ""
            said += f", {about}{format_usd(due)}{play}"
            if self.total != due:
                said += f" ({about}{format_usd(self.total)} so far)"
        return f"[{said}{', simulated' if self.turn.simulated else ''}]"

    @property
    def _played(self) -> bool:
        return self.turn.simulated if self.cost is None else self.cost.book is Book.SIM

    def _charge(self) -> Charge | None:
        """Return what the books say; None where they are not on this machine."""
        if self.client.host not in LOCAL_HOSTS:
            return None
        return compose.charge(self._place, self.turn.request_id)


def _price(turn: Turn) -> int | None:
    """Return what a turn costs by this machine's price book; None where it does not know the model."""
    from headgate.cli.pricing import Shelf
    from headgate.money.cost import cost

    try:
        row = Shelf(compose.settings()).find(turn.model).row
    except (ConfigError, Failed, Unusable):
        return None
    used = Usage(turn.input_tokens, turn.output_tokens, cached_tokens=turn.cached_tokens)
    return None if row is None else cost(used, row.prices)


def _show(chat: Chat, text: str) -> None:
    """Print one answer as it comes."""
    for piece in chat.say(text):
        click.echo(_printable(piece), nl=False)
    click.echo()
    click.secho(chat.summary(), dim=True, err=True)


def _printable(text: str) -> str:
    """Return a text without what would steer the terminal."""
    if not sys.stdout.isatty():
        return text
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) != "Cc")


def _converse(chat: Chat) -> None:
    with contextlib.suppress(ImportError):
        import_module("readline")  # gives `input` its history and its editing keys
    click.secho(f"{chat.model} at {chat.client.url}. {_HELP}", dim=True, err=True)
    while (text := _line()) is not None:
        if text.startswith("/"):
            if not _obey(chat, text):
                return
        elif text:
            _turn(chat, text)


def _line() -> str | None:
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        click.echo()
        return None


def _turn(chat: Chat, text: str) -> None:
    """Have one turn; what goes wrong with it ends neither the chat nor its history."""
    try:
        _show(chat, text)
    except KeyboardInterrupt:
        click.secho("\n[stopped; this turn is forgotten]", dim=True, err=True)
    except Refused as fault:
        click.secho(fault.message, fg="red", err=True)


def _obey(chat: Chat, text: str) -> bool:
    """Follow a command; say whether the chat goes on."""
    word, _, rest = text.partition(" ")
    if word in {"/exit", "/quit"}:
        return False
    if word == "/new":
        chat.forget()
    elif word == "/model" and rest:
        chat.model = rest.strip()
    else:
        click.secho(_HELP, dim=True, err=True)
    return True
