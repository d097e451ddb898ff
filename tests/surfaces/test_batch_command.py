"""`headgate batch`, as a user runs it: results as they come, going on after a kill, clear errors on bad rows."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.answers import default_answer
from tests.surfaces.conftest import HEADGATE, Gateway, plain_environment
from tests.surfaces.forks import run as run_forked
from tests.surfaces.test_batches_sdk import priced
from tests.upstream import Peer, Received, ScriptedUpstream

from headgate.cli.batchrun import Run
from headgate.cli.client import Refused

PROMPT = ["--prompt", "Translate: {text}"]


class Terminal:
    """Runs commands in a folder against a gateway."""

    def __init__(self, folder: Path, gateway: Gateway, model: str) -> None:
        self.folder = folder
        self.gateway = gateway
        self.model = model

    def command(self, *args: str) -> list[str]:
        url = self.gateway.base.removesuffix("/v1")
        return [HEADGATE, "batch", *args, "--url", url, "--key", self.gateway.key]

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return run_forked(self.command(*args), self.folder, plain_environment(), timeout=60)

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*args), cwd=self.folder, env=plain_environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


@pytest.fixture
def terminal(simulated, tmp_path) -> Terminal:
    return Terminal(tmp_path, simulated, "gpt-4o-mini")


class Halting(Terminal):
    """A model that answers 600 calls, and the others once `go_on` is set."""

    def __init__(self, folder: Path, upstream: ScriptedUpstream) -> None:
        self.go_on = threading.Event()
        self._begun = 0
        upstream.answers[:] = [self._answer]
        super().__init__(folder, priced(folder, upstream, "1/total"), "m")

    async def _answer(self, peer: Peer, request: Received) -> None:
        self._begun += 1
        if self._begun > 600:
            while not self.go_on.is_set():
                await asyncio.sleep(0.01)
        await peer.send(default_answer(request))


@pytest.fixture
def halting(tmp_path) -> Iterator[Halting]:
    with ScriptedUpstream() as upstream:
        terminal = Halting(tmp_path, upstream)
        yield terminal
        terminal.go_on.set()
        terminal.gateway.stop()


def rows_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_of_a_csv_get_their_answers_beside_them(terminal):
    (terminal.folder / "in.csv").write_text('id,text\na,hello\nb,"two\nlines"\n')
    done = terminal.run("run", "in.csv", "-m", terminal.model, "--template", "translate", "--to", "French")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"2 results in in\.results\.csv, 0 without an answer; \$0\.\d+ in all\.\n", done.stdout
    )
    with (terminal.folder / "in.results.csv").open(newline="") as file:
        rows = {row["custom_id"]: row for row in csv.DictReader(file)}
    assert rows["b"]["text"] == "two\nlines"
    assert rows["a"]["answer"]
    assert not (terminal.folder / "in.results.csv.state").exists()
    again = terminal.run("run", "in.csv", "-m", terminal.model, *PROMPT)
    assert again.returncode == 1
    assert "is there already" in again.stderr


def test_a_dry_run_says_what_it_would_cost_and_orders_nothing(terminal):
    (terminal.folder / "in.jsonl").write_text('"hello"\n"bye"\n')
    args = ("run", "in.jsonl", "-m", "gpt-4o-mini", *PROMPT, "--max-tokens", "100")
    told = json.loads(terminal.run(*args, "--dry-run", "--json").stdout)
    assert (told["lines"], told["output_tokens"]) == (2, 200)
    assert 0 < told["batch_nano_usd"] * 2 <= told["usual_nano_usd"] + 2
    shown = terminal.run(*args, "--dry-run").stdout
    assert "as a batch" in shown
    assert list(terminal.folder.glob("in.results*")) == []


@pytest.mark.parametrize(
    ("name", "content", "args", "said"),
    [
        ("a.jsonl", '{"text": "x"}\n{bad\n', PROMPT, "line 2, column"),
        (
            "a.jsonl",
            '{"text": "x"}\n{"name": "y"}\n',
            PROMPT,
            "Line 2: the prompt asks for the column 'text'",
        ),
        (
            "a.jsonl",
            '{"id": 1, "text": "x"}\n{"id": 1, "text": "y"}\n',
            PROMPT,
            "Line 2: the id '1' is that of line 1",
        ),
        ("a.csv", "a,text\n1\n", PROMPT, "line 2, column 2: 1 cells, the head has 2"),
        ("a.csv", "", PROMPT, "is empty"),
        ("a.jsonl", "", PROMPT, "has no rows"),
        ("a.jsonl", '"x"\n', ["--prompt", "Say something"], "has no {column}"),
        ("a.jsonl", '"x"\n', [], "Say what to do with each row"),
        ("a.jsonl", '"x"\n', ["--template", "translate"], "needs --to"),
    ],
)
def test_what_is_wrong_with_rows_is_said_before_anything_is_sent(terminal, name, content, args, said):
    (terminal.folder / name).write_text(content)
    refused = terminal.run("run", name, "-m", terminal.model, *args)
    assert refused.returncode in {1, 2}
    assert said in refused.stderr
    assert list(terminal.folder.glob("*.results*")) == []


def test_a_refused_batch_says_which_lines_are_wrong(terminal):
    (terminal.folder / "in.jsonl").write_text('"x"\n\n"y"\n')
    refused = terminal.run("run", "in.jsonl", "-m", "no-such-model", *PROMPT)
    assert refused.returncode == 1
    assert "line 3: The model `no-such-model` does not exist" in refused.stderr
    assert list(terminal.folder.glob("*.results*")) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_was_cut_goes_on_where_it_was(halting, how):
    (halting.folder / "in.jsonl").write_text("".join(f'"text {n}"\n' for n in range(1_200)))
    args = ("run", "in.jsonl", "-m", halting.model, *PROMPT, "--max-tokens", "20")
    out = halting.folder / "in.results.jsonl"
    first = halting.start(*args)
    deadline = time.monotonic() + 30
    while not (out.exists() and out.stat().st_size):
        assert time.monotonic() < deadline, first.poll()
        time.sleep(0.02)
    first.send_signal(how)
    first.communicate(timeout=20)
    halting.go_on.set()
    with out.open("ab") as file:
        file.write(b'{"custom_id": "row-')  # as a kill in the middle of a write leaves it
    done = halting.run(*args)
    assert done.returncode == 0, done.stderr
    assert "Going on with batch_" in done.stderr
    rows = rows_of(out)
    assert len(rows) == len({row["custom_id"] for row in rows}) == 1_200
    assert all(row["answer"] for row in rows)
    assert len(json.loads(halting.run("list", "--json").stdout)) == 1


def test_a_ctrl_c_that_gets_lost_ends_it_all_the_same(tmp_path: Path) -> None:
    job = Run.__new__(Run)
    job._ended, job._away, job._state_path = False, False, tmp_path / "none"

    def lost() -> None:
        with suppress(KeyboardInterrupt):  # as where an object is collected
            job.end(signal.SIGINT, None)
        raise Refused(503, "away", None)

    with pytest.raises(KeyboardInterrupt):
        job._patiently(lost)


def test_a_file_of_ones_own_is_submitted_looked_at_and_fetched(terminal):
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings",
            "body": {"model": "text-embedding-3-small", "input": "x"}}  # fmt: skip
    (terminal.folder / "own.jsonl").write_text(json.dumps(line) + "\n")
    made = terminal.run("submit", "own.jsonl", "--endpoint", "/v1/embeddings", "--json")
    name = json.loads(made.stdout)["id"]
    deadline = time.monotonic() + 30
    while json.loads(terminal.run("status", name, "--json").stdout)["status"] != "completed":
        assert time.monotonic() < deadline
    (row,) = [json.loads(line) for line in terminal.run("fetch", name).stdout.splitlines()]
    assert (row["custom_id"], row["response"]["status_code"]) == ("a", 200)
    late = terminal.run("cancel", name)
    assert late.returncode == 1
    assert "Cannot cancel a batch with status 'completed'" in late.stderr
    assert name in terminal.run("list").stdout
