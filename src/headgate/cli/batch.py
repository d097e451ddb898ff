"""`headgate batch`: many prompts at once through a running gateway, and batches of one's own."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from headgate.cli.batchestimate import estimate_file, estimate_rows, print_estimate
from headgate.cli.batchrows import TEMPLATES, Prompt, read_rows, template_of
from headgate.cli.batchrun import Run
from headgate.cli.batchwire import CHAT, DONE, BatchClient, writing
from headgate.cli.exits import Failed, Unusable
from headgate.cli.options import examples, json_option
from headgate.cli.output import counted, print_fields, print_json, print_list
from headgate.config import client_key
from headgate.money.amounts import format_usd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headgate.cli.batchrows import Row

_URL: Final = "http://127.0.0.1:8787"


def client_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which gateway, and with which key."""
    for option in (
        click.option("--key", metavar="KEY", help="Headgate key. [default: $OPENAI_API_KEY]"),
        click.option("--url", metavar="URL", default=_URL, show_default=True, help="Running gateway."),
    ):
        command = option(command)
    return command


@examples("batch run texts.csv -m gpt-4o-mini --prompt 'Summarise: {text}'", "batch list")
@click.group(name="batch")
def command() -> None:
    """Run many prompts at once, at half price, below what people wait for."""


@examples(
    "batch run texts.csv -m gpt-4o-mini --template translate --to German",
    "batch run prompts.jsonl -m gpt-4o-mini --prompt 'Summarise: {text}' --dry-run",
    "batch run mails.csv -m gpt-4o-mini --template classify --labels complaint,praise,question",
)
@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-m", "--model", required=True, metavar="NAME", help="Model to ask.")
@click.option("--prompt", metavar="TEXT", help="What is asked of each row: `Translate: {text}`.")
@click.option("--template", type=click.Choice(tuple(TEMPLATES)), help="A ready prompt instead.")
@click.option("--to", metavar="LANGUAGE", help="Of --template translate.")
@click.option("--labels", metavar="A,B,…", help="Of --template classify.")
@click.option("--fields", metavar="A,B,…", help="Of --template extract: the members of the JSON.")
@click.option("--column", metavar="NAME", default="text", show_default=True, help="Column of the text.")
@click.option("--system", metavar="TEXT", help="System message.")
@click.option("--max-tokens", type=click.IntRange(1), metavar="N", help="Longest answer.")
@click.option("--temperature", type=click.FloatRange(0, 2), metavar="T", help="Between 0 and 2.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Results: .jsonl or .csv. [default: next to FILE]"
)
@click.option(
    "--encoding", metavar="NAME", help="Of FILE, such as gbk. [default: UTF-8, or its byte order mark's]"
)
@click.option("--dry-run", is_flag=True, help="Say lines, tokens and cost, and order nothing.")
@client_options
@json_option
def run(
    file: Path, url: str, key: str | None, out: Path | None, dry_run: bool, as_json: bool, **wishes: Any
) -> None:
    """Ask a model about every row of FILE, a CSV with a head or JSON lines.

    Results are written as they come, with the columns of their rows. Ctrl-C leaves the batch running: the
    same command goes on where it was. A row's `custom_id` or `id` names it, else its line does.
    """
    sheet, prompt, kept = read_rows(file, wishes["encoding"]), _prompt(wishes), _kept(file, out)
    if dry_run:
        print_estimate(estimate_rows(sheet.rows, prompt), as_json=as_json)
        return
    job = Run(BatchClient(url, _key(key)), kept, sheet, prompt)
    before = signal.signal(signal.SIGINT, job.end)
    try:
        batch = job.run()
    except KeyboardInterrupt:
        click.echo(f"\n{job.left}", err=True)
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    _judge_input(batch, sheet.rows)
    if as_json:
        found = {
            "out": str(kept),
            "results": job.written,
            "failed": job.failed,
            "charge_nano_usd": job.charge,
        }
        print_json({"batch": batch, **found})
    else:
        cost = format_usd(job.charge)
        click.echo(f"{job.written:,} results in {kept}, {job.failed:,} without an answer; {cost} in all.")
    _judge(batch, job.failed)


def _kept(file: Path, out: Path | None) -> Path:
    """Return where results go."""
    if out is not None and out.suffix.lower() not in {".csv", ".jsonl"}:
        raise Unusable(f"--out {out}: results are .jsonl or .csv.")
    kind = ".csv" if file.suffix.lower() in {".csv", ".tsv"} else ".jsonl"
    return out or file.with_name(f"{file.stem}.results{kind}")


def _prompt(wishes: dict[str, Any]) -> Prompt:
    fields = _listed(wishes["fields"])
    listed = {
        "to": wishes["to"] or "",
        "labels": ", ".join(_listed(wishes["labels"])),
        "fields": ", ".join(fields),
    }
    return Prompt(
        template_of(wishes["template"], wishes["prompt"], listed, wishes["column"]),
        wishes["model"],
        wishes["system"],
        wishes["max_tokens"],
        wishes["temperature"],
        fields if wishes["template"] == "extract" else (),
    )


def _listed(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())


def _judge_input(batch: dict[str, Any], rows: list[Row]) -> None:
    """Say what is wrong with the rows, by their lines. Raises `Failed`."""
    errors = (batch["errors"] or {}).get("data") or []
    if errors:
        told = [
            f"line {rows[error['line'] - 1].line}: {error['message']}" if error["line"] else error["message"]
            for error in errors[:10]
        ]
        raise Failed("\n".join(["The batch was refused.", *told]), errors[0]["code"])


def _judge(batch: dict[str, Any], failed: int) -> None:
    """Say what went wrong, if anything did. Raises `Failed`."""
    if batch["status"] != "completed":
        raise Failed(f"The batch ended as {batch['status']}.", batch["status"])
    if failed:
        have = "has no answer; its" if failed == 1 else "have no answer; their"
        raise Failed(f"{counted(failed, 'row')} {have} `error` says why.", "rows_failed")


def _key(given: str | None) -> str:
    key = given or client_key()
    if not key:
        raise Unusable("Say with which key: --key, or OPENAI_API_KEY. `headgate keys create` makes one.")
    return key


@examples(
    "batch submit requests.jsonl",
    "batch submit vectors.jsonl --endpoint /v1/embeddings",
    "batch submit requests.jsonl --dry-run",
)
@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--endpoint", metavar="PATH", default=CHAT, show_default=True, help="Of every line.")
@click.option("--dry-run", is_flag=True, help="Say lines, tokens and cost, and order nothing.")
@client_options
@json_option
def submit(file: Path, endpoint: str, dry_run: bool, url: str, key: str | None, as_json: bool) -> None:
    """Order a batch of a file in OpenAI's form, and come back at once."""
    if dry_run:
        print_estimate(estimate_file(file, endpoint), as_json=as_json)
        return
    client = BatchClient(url, _key(key))
    _show([client.create(client.upload(file), endpoint, {})], as_json=as_json)


@examples("batch status batch_01a2186b247f7bf89dfc20d4b46c5a7e")
@command.command()
@click.argument("batch")
@client_options
@json_option
def status(batch: str, url: str, key: str | None, as_json: bool) -> None:
    """Say how a batch stands."""
    _show([BatchClient(url, _key(key)).find(batch)], as_json=as_json)


@examples("batch cancel batch_01a2186b247f7bf89dfc20d4b46c5a7e")
@command.command()
@click.argument("batch")
@client_options
@json_option
def cancel(batch: str, url: str, key: str | None, as_json: bool) -> None:
    """Cancel a batch: what is done stays, the rest is not run."""
    _show([BatchClient(url, _key(key)).cancel(batch)], as_json=as_json)


@examples("batch fetch batch_01a2186b247f7bf89dfc20d4b46c5a7e --out answers.jsonl")
@command.command()
@click.argument("batch")
@click.option("--out", type=click.Path(path_type=Path), help="File to write. [default: standard output]")
@client_options
@json_option
def fetch(batch: str, out: Path | None, url: str, key: str | None, as_json: bool) -> None:
    """Fetch the output lines of a batch that is done: answers first, then errors.

    They are JSON lines; with --json they are one list.
    """
    client = BatchClient(url, _key(key))
    found = client.find(batch)
    if found["status"] not in DONE:
        raise Failed(f"{batch} is {found['status']}: its files are not there yet.", "not_ready")
    if found["output_file_id"] is None and found["error_file_id"] is None:
        said = f": {errors}" if (errors := _errors(found)) else "."
        raise Failed(f"{batch} is {found['status']} and has no lines{said}", "no_lines")
    lines = (line for name in ("output_file_id", "error_file_id") for line in client.lines(found[name]))
    if as_json:
        print_json([msgspec.Raw(line) for line in lines])
    elif out is None:
        _write(lines, sys.stdout.buffer.write)
    else:
        with writing(out), out.open("wb") as file:
            _write(lines, file.write)


def _write(lines: Iterable[bytes], write: Callable[[bytes], Any]) -> None:
    for line in lines:
        write(line)


@examples("batch list", "batch list --json")
@command.command(name="list")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="So many.")
@client_options
@json_option
def list_(limit: int, url: str, key: str | None, as_json: bool) -> None:
    """List the batches of the key's project, the newest first."""
    found = BatchClient(url, _key(key)).ask("GET", f"/v1/batches?limit={limit}")
    if as_json:
        print_json(found["data"])
        return
    rows = [_cells(batch) for batch in found["data"]]
    print_list(("id", "status", "model", "done", "failed", "of"), rows, "No batches.", numbers=(3, 4, 5))


def _cells(batch: dict[str, Any]) -> list[str]:
    counts = batch["request_counts"]
    numbers = [f"{counts[name]:,}" for name in ("completed", "failed", "total")]
    return [batch["id"], batch["status"], batch["model"] or "", *numbers]


def _show(batches: list[dict[str, Any]], *, as_json: bool) -> None:
    for batch in batches:
        if as_json:
            print_json(batch)
            continue
        heads = ("id", "status", "model", "done", "failed", "of")
        print_fields([*zip(heads, _cells(batch), strict=True), ("errors", _errors(batch))])


def _errors(batch: dict[str, Any]) -> str:
    """Return the first things that are wrong with a batch, by their lines."""
    told = (batch["errors"] or {"data": []})["data"][:5]
    return "; ".join(
        f"line {each['line']}: {each['message']}" if each["line"] else each["message"] for each in told
    )
