"""What a batch would cost, before it is ordered: lines, tokens and money, as far as they are known here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from headgate.cli import compose
from headgate.cli.batchwire import CHAT
from headgate.cli.exits import Failed, Unusable
from headgate.cli.output import counted, print_json
from headgate.errors import CallerError
from headgate.money.amounts import format_usd
from headgate.values import Call, Usage
from headgate.wire.batches import LineRefused, read_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from headgate.cli.batchrows import Prompt, Row
    from headgate.values import Operation

_GUESS: Final = 200  # tokens of an answer where no limit is given
_OPERATIONS: Final[Mapping[str, Operation]] = {
    CHAT: "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
}
_SHOWN: Final = 10  # lines that are wrong
_decode = msgspec.json.decode


class Estimate:
    """What lines of one model ask for.

    Args:
        model: its name.
        operation: of each line.
    """

    def __init__(self, model: str, operation: Operation) -> None:
        from headgate.cli.pricing import Shelf
        from headgate.money.batchterms import BATCH, in_tier
        from headgate.money.tokens import Tokenizers

        config = compose.settings()
        priced = Shelf(config).guess(model)
        self._model, self._operation = priced.model, operation
        self._tokenizers = Tokenizers()
        if priced.model.tokenizer:
            self._tokenizers.load_now(priced.model.tokenizer)
        self._prices = priced.row.prices if priced.row is not None else None
        self._batch = self._prices
        if priced.row is not None:
            self._batch = in_tier(priced.row, BATCH, config.batch, model) or self._prices
        self._used: list[Usage] = []
        self._guessed = 0  # lines that say no limit

    def add(self, members: Mapping[str, Any], limit: int | None, answers: int = 1) -> None:
        """Take in a line.

        Args:
            members: of its body.
            limit: tokens that each of its answers may have; None: it does not say.
            answers: how many it asks for.
        """
        count = self._tokenizers.count_input(self._model, self._operation, members).tokens
        if self._operation == "embeddings":
            limit = 0
        self._guessed += limit is None
        self._used.append(Usage(count, answers * (_GUESS if limit is None else limit)))

    def told(self) -> dict[str, Any]:
        """Return what it comes to; null where no price is known here."""
        from headgate.money.cost import cost

        usual = cheap = None
        if self._prices is not None and self._batch is not None:
            usual = sum(cost(each, self._prices) for each in self._used)
            cheap = sum(cost(each, self._batch) for each in self._used)
        return {
            "lines": len(self._used),
            "input_tokens": sum(each.input_tokens for each in self._used),
            "output_tokens": sum(each.output_tokens for each in self._used),
            "output_is": self._output_is(),
            "usual_nano_usd": usual,
            "batch_nano_usd": cheap,
        }

    def _output_is(self) -> str:
        if self._operation == "embeddings":
            return "vectors are none"
        if not self._guessed:
            return "the limit of each"
        guess = f"a guess of {_GUESS} each"
        return guess if self._guessed == len(self._used) else f"the limit of each, else {guess}"


def estimate_rows(rows: list[Row], prompt: Prompt) -> dict[str, Any]:
    """Return what a run would ask, and about what it would cost."""
    found = Estimate(prompt.model, "chat")
    for row in rows:
        found.add(prompt.body(row), prompt.max_tokens)
    return found.told()


def estimate_file(path: Path, endpoint: str) -> dict[str, Any]:
    """Return what the lines of a file in OpenAI's form ask, and about what they would cost.

    Raises:
        Failed: lines that are none; what else may be wrong the gateway says when it reads them.
        Unusable: it cannot be read, or nothing is known of an endpoint's tokens.
    """
    operation = _OPERATIONS.get(endpoint)
    if operation is None:
        raise Unusable(f"--dry-run counts the tokens of {', '.join(_OPERATIONS)} only.")
    found: Estimate | None = None
    model, failing = "", list[str]()
    for number, call in _calls(path, endpoint, operation):
        if isinstance(call, CallerError):
            failing.append(f"line {number}: {call.message}")
            continue
        if found is None:
            model, found = call.model, Estimate(call.model, operation)
        if call.model != model:
            raise Failed(
                f"{path}, line {number}: the model is {call.model[:100]!r}, and that of the lines before it "
                f"{model[:100]!r}. The requests of a batch are for one model.",
                "model_mismatch",
            )
        members = {name: _decode(raw) for name, raw in call.members.items()}
        found.add(members, call.max_output, call.n)
    if found is None:
        raise Failed("\n".join([f"{path} has no line that can be run.", *failing[:_SHOWN]]), "no_lines")
    return {**found.told(), "failing": failing}


def _calls(path: Path, endpoint: str, operation: Operation) -> Iterator[tuple[int, Call | CallerError]]:
    """Yield the lines of a file: the call of each, or why it will get an error for an answer."""
    from headgate.http.parse import parse

    wrong: list[str] = []
    for number, data in _lines(path):
        call = Call(bytes(16), operation, 0)
        try:
            parse(read_line(data, number, endpoint).body, call)
        except LineRefused as refused:
            wrong.append(f"line {number}: {refused.error.message}")
        except CallerError as error:
            yield number, error
        else:
            yield number, call
        if len(wrong) >= _SHOWN:
            break
    if wrong:
        raise Failed("\n".join([f"{path} would be refused.", *wrong]), "invalid_lines")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield number, line.removesuffix(b"\n").removesuffix(b"\r")
    except OSError as fault:
        raise Failed(f"Cannot read {path}: {fault.strerror}.") from fault


def print_estimate(found: dict[str, Any], *, as_json: bool) -> None:
    """Print an estimate for people, or as JSON."""
    if as_json:
        print_json(found)
        return
    given, made = found["input_tokens"], found["output_tokens"]
    lines = counted(found["lines"], "line")
    click.echo(f"{lines}, {counted(given, 'token')} in, {made:,} out ({found['output_is']})")
    if found["usual_nano_usd"] is None:
        click.echo("No price of this model is known here. What the gateway charges is in its settings.")
    else:
        usual, cheap = (format_usd(found[name]) for name in ("usual_nano_usd", "batch_nano_usd"))
        click.echo(f"{usual} one by one, {cheap} as a batch")
    failing = found.get("failing") or []
    if failing:
        shown = "\n".join(failing[:_SHOWN])
        click.echo(f"{counted(len(failing), 'more line')} would get an error for an answer:\n{shown}")
