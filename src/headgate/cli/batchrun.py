"""One run of `headgate batch run`: results are written as they come, and a run that was cut goes on."""

from __future__ import annotations

import csv
import hashlib
import io
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from headgate.cli.batchwire import CHAT, DONE, BatchClient, write_whole
from headgate.cli.exits import Failed
from headgate.money.amounts import format_usd

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from headgate.cli.batchrows import Prompt, Row

_LOOK_S: Final = 1.0
_PLAIN_S: Final = 10.0  # between two lines of progress where nobody looks at a terminal


class State(msgspec.Struct):
    """What a run must know to go on; next to its output."""

    batch: str
    digest: str  # of what was asked
    after: int = 0  # the last result that was written


class Results:
    """The output of a run: one line or row for each answer, in the order in which they came.

    Args:
        path: JSONL, or CSV where it ends so.
        rows: of the input, by their names.
    """

    def __init__(self, path: Path, rows: dict[str, Row]) -> None:
        self._path = path
        self._rows = rows
        self._csv = path.suffix.lower() == ".csv"
        self._heads = ["custom_id", *dict.fromkeys(name for row in rows.values() for name in row.values)]
        self._heads = list(dict.fromkeys((*self._heads, "answer", "error")))
        self.done: set[str] = set()
        self.failed = 0

    def resume(self) -> None:
        """Learn what is there already; a line that was cut off goes."""
        if not self._path.exists():
            if self._csv:
                self._append([self._cells(self._heads)])
            return
        content = self._path.read_bytes()
        if not content.endswith(b"\n"):
            content = content[: content.rfind(b"\n") + 1]
            write_whole(self._path, content)
        text = content.decode("utf-8")
        rows: Iterable[dict[str, Any]] = (
            csv.DictReader(io.StringIO(text)) if self._csv else map(msgspec.json.decode, text.splitlines())
        )
        for row in rows:
            self.done.add(str(row["custom_id"]))
            self.failed += bool(row.get("error"))

    def take(self, lines: Iterable[dict[str, Any]]) -> int:
        """Write the results that are not there yet; return how many."""
        fresh = [line for line in lines if line["custom_id"] not in self.done]
        self._append([self._written(line) for line in fresh])
        return len(fresh)

    def _append(self, lines: list[bytes]) -> None:
        with self._path.open("ab") as file:
            file.write(b"".join(lines))

    def _written(self, line: dict[str, Any]) -> bytes:
        name = line["custom_id"]
        answer, error = _outcome(line)
        self.done.add(name)
        self.failed += error is not None
        row = self._rows.get(name)
        values = {"custom_id": name, **(row.values if row is not None else {})}
        values |= {"answer": answer, "error": error}
        if not self._csv:
            return msgspec.json.encode(values) + b"\n"
        return self._cells(["" if values.get(head) is None else values[head] for head in self._heads])

    @staticmethod
    def _cells(cells: list[Any]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        return text.getvalue().encode()


def _outcome(line: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the answer of a result, or why there is none."""
    response = line.get("response")
    if response is None:
        return None, (line.get("error") or {}).get("message", "no answer")
    body = response["body"]
    if response["status_code"] >= 400:
        return None, (body.get("error") or {}).get("message", f"HTTP {response['status_code']}")
    message = body["choices"][0]["message"]
    return message.get("content") or message.get("refusal"), None


class Run:
    """A run from its order to its last result.

    Args:
        client: of the gateway.
        out: where results go; the state is next to it.
        rows: of the input.
        prompt: what becomes of each.
    """

    def __init__(self, client: BatchClient, out: Path, rows: list[Row], prompt: Prompt) -> None:
        self._client = client
        self._out = out
        self._rows = rows
        self._prompt = prompt
        self._state_path = out.with_name(out.name + ".state")
        self._results = Results(out, {row.name: row for row in rows})
        self._began = time.monotonic()
        self._told = 0.0
        self._first = 0  # results that were there at the start

    def run(self) -> dict[str, Any]:
        """Order the batch, or go on with it; return it as it ended.

        Raises:
            Failed: it was refused, or another run has this output.
        """
        content = self.content()
        digest = hashlib.sha256(content).hexdigest()
        state = self._resumed(digest) or self._order(content, digest)
        self._results.resume()
        self._first = len(self._results.done)
        batch = self._follow(state)
        click.echo(err=True)
        self._fetch(batch)
        self._state_path.unlink(missing_ok=True)
        if not self._results.done:  # it was refused: the next run may have this output
            self._out.unlink(missing_ok=True)
        return batch

    def content(self) -> bytes:
        """Return the input of the batch."""
        return b"".join(
            msgspec.json.encode(
                {"custom_id": row.name, "method": "POST", "url": CHAT, "body": self._prompt.body(row)}
            )
            + b"\n"
            for row in self._rows
        )

    def _resumed(self, digest: str) -> State | None:
        if not self._state_path.exists():
            if self._out.exists() and self._out.stat().st_size:
                raise Failed(f"{self._out} is there already. Choose another with --out, or remove it.")
            return None
        state = msgspec.json.decode(self._state_path.read_bytes(), type=State)
        if state.digest != digest:
            raise Failed(
                f"{self._state_path} is of another run: with other rows, prompt or model. Choose another "
                "--out, or remove both."
            )
        click.echo(f"Going on with {state.batch}.", err=True)
        return state

    def _order(self, content: bytes, digest: str) -> State:
        whole = self._out.with_name(self._out.name + ".input")
        write_whole(whole, content)
        try:
            file_id = self._client.upload(whole)
        finally:
            whole.unlink()
        batch = self._client.create(file_id, CHAT, {"command": "batch run"})
        state = State(str(batch["id"]), digest)
        self._keep(state)
        click.echo(f"Ordered {state.batch}: {len(self._rows):,} lines of {self._prompt.model}.", err=True)
        return state

    def _keep(self, state: State) -> None:
        write_whole(self._state_path, msgspec.json.encode(state))

    def _follow(self, state: State) -> dict[str, Any]:
        """Write results as they come, until the batch is done."""
        while True:
            found = self._client.results(state.batch, state.after)
            batch: dict[str, Any] = found["batch"]
            if found["data"]:
                self._results.take(found["data"])
                state.after = found["last_seq"]
                self._keep(state)
            self._tell(batch, found["charge_nano_usd"])
            if batch["status"] in DONE:
                return batch
            if len(found["data"]) < 1_000:
                time.sleep(_LOOK_S)

    def _fetch(self, batch: dict[str, Any]) -> None:
        """Write what came between the last look and the end, from the files."""
        for name in ("output_file_id", "error_file_id"):
            lines = [msgspec.json.decode(line) for line in self._client.lines(batch[name])]
            self._results.take(lines)

    def _tell(self, batch: dict[str, Any], charge: int) -> None:
        """Say how it goes."""
        terminal = sys.stderr.isatty()
        now = time.monotonic()
        if not terminal and now - self._told < _PLAIN_S:
            return
        self._told = now
        counts, total = batch["request_counts"], len(self._rows)
        done = counts["completed"] + counts["failed"]
        rate = (len(self._results.done) - self._first) / max(now - self._began, 0.001)
        said = f"{batch['status']}: {done:,} of {total:,}"
        if counts["failed"]:
            said += f" ({counts['failed']:,} failed)"
        said += f", {rate:,.1f}/s, {format_usd(charge)} so far"
        if rate > 0 and done < total:
            said += f", about {_duration((total - done) / rate)} left"
        click.echo(f"\r\x1b[K{said}" if terminal else said, nl=not terminal, err=True)

    @property
    def failed(self) -> int:
        """Return how many rows have no answer."""
        return self._results.failed

    @property
    def written(self) -> int:
        """Return how many results there are."""
        return len(self._results.done)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
