"""One run of `headgate batch run`: results are written as they come, and a run that was cut goes on."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import secrets
import sys
import time
from codecs import BOM_UTF8
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from headgate.cli.batchrows import LONGEST_CELL
from headgate.cli.batchwire import CHAT, DONE, BatchClient, write_whole, writing
from headgate.cli.client import Refused
from headgate.cli.exits import Failed, Unreachable
from headgate.cli.output import counted
from headgate.money.amounts import format_usd
from headgate.stores.sql.folder import try_lock
from headgate.wire.batches import MOST_BYTES, MOST_LINES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from headgate.cli.batchrows import Prompt, Sheet

_LOOK_S: Final = 1.0
_PATIENCE_S: Final = 1_800.0  # for a gateway that is away while its batch goes on
_AWAY: Final = frozenset({429, 500, 502, 503, 504})  # it or its database is, for a while
_MB: Final = 1 << 20
_LONG: Final = 8 * _MB  # an input whose way takes so long that it is said
_PAGE: Final = 1_000  # results in a full answer
_PLAIN_S: Final = 10.0  # between two lines of progress where nobody looks at a terminal


class State(msgspec.Struct):
    """What a run must know to go on; next to its output."""

    batch: str  # empty: it was about to be ordered
    digest: str  # of what was asked
    after: int = 0  # the last result that was written
    once: str = ""  # the Idempotency-Key of the order
    file: str = ""  # its input, as the gateway calls it


class Results:
    """The output of a run: one line or row for each answer, in the order in which they came.

    A column of the input that is called `answer` or `error` stays as it is: then ours are `answer_2` and
    `error_2`.

    Args:
        path: JSONL, or CSV where it ends so.
        sheet: the input.
    """

    def __init__(self, path: Path, sheet: Sheet) -> None:
        self._path = path
        self._rows = {row.name: row for row in sheet.rows}
        self._csv = path.suffix.lower() == ".csv"
        self._marked = sheet.marked
        taken = dict.fromkeys(name for row in sheet.rows for name in row.values)
        self._answer, self._error = _free("answer", taken), _free("error", taken)
        self._heads = list(dict.fromkeys(("custom_id", *taken, self._answer, self._error)))
        self.done: set[str] = set()
        self.failed = 0

    def resume(self) -> None:
        """Learn what is there already; a line that was cut off goes."""
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = content[: _end(content, quoted=self._csv)]
        if whole != content:
            write_whole(self._path, whole)
        if not whole:
            if self._csv:
                self._append([BOM_UTF8 if self._marked else b"", self._cells(self._heads)])
            return
        csv.field_size_limit(LONGEST_CELL)  # of answers, too, whatever the input was
        rows: Iterable[dict[str, Any]] = (
            csv.DictReader(io.StringIO(whole.decode("utf-8-sig"), newline=""))
            if self._csv
            else map(msgspec.json.decode, whole.split(b"\n")[:-1])
        )
        for row in rows:
            self.done.add(str(row["custom_id"]))
            self.failed += bool(row.get(self._error))

    def take(self, lines: Iterable[dict[str, Any]]) -> int:
        """Write the results that are not there yet; return how many. Raises `Failed`."""
        fresh = [line for line in lines if line["custom_id"] not in self.done]
        self._append([self._written(line) for line in fresh])
        return len(fresh)

    def _append(self, lines: list[bytes]) -> None:
        with writing(self._path), self._path.open("ab") as file:
            file.write(b"".join(lines))

    def _written(self, line: dict[str, Any]) -> bytes:
        name = line["custom_id"]
        answer, error = _outcome(line)
        self.done.add(name)
        self.failed += error is not None
        row = self._rows.get(name)
        values = {"custom_id": name, **(row.values if row is not None else {})}
        values |= {"custom_id": name, self._answer: answer, self._error: error}
        if not self._csv:
            return msgspec.json.encode(values) + b"\n"
        return self._cells(["" if values.get(head) is None else values[head] for head in self._heads])

    @staticmethod
    def _cells(cells: list[Any]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\r\n").writerow(cells)  # so that a lone CR is quoted, too
        return text.getvalue().removesuffix("\r\n").encode() + b"\n"


def _free(name: str, taken: Iterable[str]) -> str:
    """Return a name of a column that no other has."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def _end(content: bytes, *, quoted: bool) -> int:
    """Return where the last whole line of an output ends; a break between quotes of a CSV is no end."""
    if not quoted:
        return content.rfind(b"\n") + 1
    end = at = 0
    inside = False
    for line in content.split(b"\n")[:-1]:
        at += len(line) + 1
        inside ^= bool(line.count(b'"') % 2)
        if not inside:
            end = at
    return end


def _outcome(line: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the answer of a result, or why there is none."""
    response = line.get("response")
    if response is None:
        return None, (line.get("error") or {}).get("message", "no answer")
    body = response["body"]
    if response["status_code"] >= 400:
        return None, (body.get("error") or {}).get("message", f"HTTP {response['status_code']}")
    if not body.get("choices"):
        return None, "The answer has no choices."
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

    def __init__(self, client: BatchClient, out: Path, sheet: Sheet, prompt: Prompt) -> None:
        self._client = client
        self._out = out
        self._rows = sheet.rows
        self._prompt = prompt
        self._state_path = out.with_name(out.name + ".state")
        self._results = Results(out, sheet)
        self._told = 0.0
        self._began: float | None = None  # when the rate began to be measured
        self._first = 0  # results that were there then
        self._away = self._ended = False
        self.charge = 0  # nano-USD

    def run(self) -> dict[str, Any]:
        """Order the batch, or go on with it; return it as it ended.

        Raises:
            Failed: it was refused, another run has this output, or that cannot be written.
            Unreachable: the gateway is away for too long.
        """
        with _alone(self._out):
            return self._run()

    def _run(self) -> dict[str, Any]:
        content = self.content()
        digest = hashlib.sha256(content).hexdigest()
        state = self._resumed(digest) or self._brought(content, digest)
        if not state.batch:
            self._order(state)
        self._results.resume()
        batch = self._follow(state)
        click.echo(err=True)
        self._patiently(lambda: self._fetch(batch))
        self._state_path.unlink(missing_ok=True)
        if not self._results.done:  # it was refused: the next run may have this output
            self._out.unlink(missing_ok=True)
        return batch

    @property
    def left(self) -> str:
        """Return what becomes of a run that is broken off now."""
        if self._state_path.exists():
            return "The batch goes on. The same command writes the rest of its results."
        return "Nothing was ordered."

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
        try:
            state = msgspec.json.decode(self._state_path.read_bytes(), type=State)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as fault:
            raise Failed(
                f"{self._state_path} cannot be read, so nobody knows which batch this run has ordered. See "
                "`headgate batch list`; remove the file to order anew."
            ) from fault
        if state.digest != digest:
            raise Failed(
                f"{self._state_path} is of another run: with other rows, prompt or model. Choose another "
                "--out, or remove both."
            )
        if state.batch:
            click.echo(f"Going on with {state.batch}.", err=True)
        return state

    def _brought(self, content: bytes, digest: str) -> State:
        """Upload the input, and keep under which key it will be ordered, so that it is ordered once."""
        if len(self._rows) > MOST_LINES or len(content) > MOST_BYTES:
            raise Failed(
                f"{len(self._rows):,} rows make {len(content) / _MB:,.1f} MB of requests. A batch may have "
                f"{MOST_LINES:,} rows and {MOST_BYTES / _MB:,.0f} MB: split the file.",
                "too_many_tasks",
            )
        if len(content) > _LONG:
            click.echo(f"Sending {len(content) / _MB:,.0f} MB.", err=True)
        whole = self._out.with_name(self._out.name + ".input")
        write_whole(whole, content)
        try:
            file_id = self._client.upload(whole)
        finally:
            whole.unlink()
        state = State("", digest, once=f"batch-run-{secrets.token_hex(16)}", file=file_id)
        self._keep(state)
        return state

    def _order(self, state: State) -> None:
        """Order the batch; one that was ordered already is the same."""
        try:
            batch = self._client.create(state.file, CHAT, {"command": "batch run"}, state.once)
        except Refused as fault:
            if fault.status not in _AWAY:
                self._state_path.unlink(missing_ok=True)
            raise
        state.batch = str(batch["id"])
        self._keep(state)
        click.echo(
            f"Ordered {state.batch}: {counted(len(self._rows), 'line')} of {self._prompt.model}.", err=True
        )

    def _keep(self, state: State) -> None:
        write_whole(self._state_path, msgspec.json.encode(state))

    def _follow(self, state: State) -> dict[str, Any]:
        """Write results as they come, until the batch is done."""
        while True:
            found: dict[str, Any] = self._patiently(lambda: self._client.results(state.batch, state.after))
            batch: dict[str, Any] = found["batch"]
            self.charge = found["charge_nano_usd"]
            if found["data"]:
                self._results.take(found["data"])
                state.after = found["last_seq"]
                self._keep(state)
            if len(found["data"]) < _PAGE and self._began is None:  # what came while nobody looked is no rate
                self._first, self._began = len(self._results.done), time.monotonic()
            self._tell(batch)
            if batch["status"] in DONE:
                return batch
            if len(found["data"]) < _PAGE:
                time.sleep(_LOOK_S)

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """Ask until the gateway answers, and return what it says: its batch goes on when it is back.

        Raises:
            Unreachable: it is away for too long.
            Refused: it does not want to.
        """
        until, pause = time.monotonic() + _PATIENCE_S, _LOOK_S
        while True:
            if self._ended:
                raise KeyboardInterrupt
            try:
                found = ask()
            except (Unreachable, Refused) as fault:
                if isinstance(fault, Refused) and fault.status not in _AWAY:
                    raise
                if time.monotonic() > until:
                    raise Unreachable(f"{fault.message} {self.left}") from fault
                self._say_away(fault.message)
                time.sleep(pause)
                pause = min(2 * pause, _PLAIN_S)
            else:
                self._away = False
                return found

    def end(self, *_signal: object) -> None:
        """Take a Ctrl-C, and remember it: Python loses one that comes while an object is collected."""
        self._ended = True
        raise KeyboardInterrupt

    def _say_away(self, why: str) -> None:
        """Say once that the gateway is away, and what may be done."""
        if not self._away:
            click.echo(f"\n{why}\nWaiting for it. {self.left}", err=True)
        self._away = True

    def _fetch(self, batch: dict[str, Any]) -> None:
        """Write what came between the last look and the end, from the files."""
        for name in ("output_file_id", "error_file_id"):
            lines = [msgspec.json.decode(line) for line in self._client.lines(batch[name])]
            self._results.take(lines)

    def _tell(self, batch: dict[str, Any]) -> None:
        """Say how it goes."""
        terminal = sys.stderr.isatty()
        now = time.monotonic()
        if not terminal and now - self._told < _PLAIN_S:
            return
        self._told = now
        counts, total = batch["request_counts"], len(self._rows)
        done = counts["completed"] + counts["failed"]
        said = f"{batch['status']}: {done:,} of {total:,}"
        if counts["failed"]:
            said += f" ({counts['failed']:,} failed)"
        rate = self._rate(now)
        if rate is not None:
            said += f", {rate:,.1f}/s"
        said += f", {format_usd(self.charge)} so far"
        if batch["status"] == "in_progress" and rate and done < total:
            said += f", about {_duration((total - done) / rate)} left"
        click.echo(f"\r\x1b[K{said}" if terminal else said, nl=not terminal, err=True)

    def _rate(self, now: float) -> float | None:
        """Return how many results come in a second; None where nobody has watched yet."""
        if self._began is None or now <= self._began:
            return None
        return (len(self._results.done) - self._first) / (now - self._began)

    @property
    def failed(self) -> int:
        """Return how many rows have no answer."""
        return self._results.failed

    @property
    def written(self) -> int:
        """Return how many results there are."""
        return len(self._results.done)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Have an output for this run alone, for as long as its process lives. Raises `Failed`."""
    path = out.with_name(out.name + ".lock")
    with writing(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    held = try_lock(handle) and _is_at(handle, path)
    try:
        if not held:
            raise Failed(f"Another run writes {out}. Wait for it, or choose another with --out.", "in_use")
        yield
    finally:
        if held and os.name != "nt":  # while it is ours; Windows keeps what is open
            path.unlink(missing_ok=True)
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Say whether an open file is still the one there: the run that had it before removes it at its end."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
