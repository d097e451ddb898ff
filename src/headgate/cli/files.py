"""`headgate files`: the files of a project, through a running gateway."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import click
import msgspec

from headgate.cli.client import Client
from headgate.cli.exits import Failed, Unusable
from headgate.cli.keyless import key_for
from headgate.cli.options import data_option, examples, json_option
from headgate.cli.output import date_text, print_json, print_list
from headgate.wire.files import MADE, PURPOSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

_SLICE: Final = 1 << 20
_US: Final = 1_000_000
_MOST: Final = 10_000
_LONGEST_H: Final = 720
_url_option: Callable[[Any], Any] = click.option(
    "--url", metavar="URL", default="http://127.0.0.1:8787", show_default=True, help="Running gateway."
)
_key_option: Callable[[Any], Any] = click.option(
    "--key", metavar="KEY", help="Headgate key. [default: $OPENAI_API_KEY if it is one, else a new one]"
)


@examples("files put prompts.jsonl --purpose batch", "files list")
@click.group(name="files")
def command() -> None:
    """Bring, list, fetch and delete files, through a running gateway. They belong to the key's project."""


@examples("files list", "files list --purpose batch --json")
@command.command(name="list")
@click.option("--purpose", type=click.Choice([*PURPOSES, *MADE]), help="Only those of one purpose.")
@click.option(
    "--last", type=click.IntRange(1, _MOST), default=50, show_default=True, metavar="N", help="How many."
)
@_url_option
@_key_option
@data_option
@json_option
def list_(purpose: str | None, last: int, url: str, key: str | None, data: str | None, as_json: bool) -> None:
    """List files, the newest first."""
    query = urlencode({"limit": last, **({"purpose": purpose} if purpose else {})})
    with key_for(url, key, data, "files") as presented:
        page = _told(Client(url, presented), "GET", f"/v1/files?{query}")
    if as_json:
        print_json(page["data"])
        return
    rows = [
        (
            row["id"],
            row["purpose"],
            f"{row['bytes']:,}",
            date_text(row["created_at"] * _US),
            date_text(row["expires_at"] * _US) if row["expires_at"] else "",
            row["filename"],
        )
        for row in page["data"]
    ]
    heads = ("id", "purpose", "bytes", "created", "expires", "name")
    print_list(heads, rows, "There are no files.", numbers=(2,))


@examples("files put prompts.jsonl --purpose batch", "files put report.pdf --hours 24")
@command.command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--purpose", type=click.Choice(PURPOSES), default="user_data", show_default=True, help="What it is for."
)
@click.option("--hours", type=click.IntRange(1, _LONGEST_H), metavar="H", help="How long it is kept.")
@_url_option
@_key_option
@data_option
@json_option
def put(path: Path, url: str, key: str | None, data: str | None, as_json: bool, **wishes: Any) -> None:
    """Bring the file at PATH."""
    with key_for(url, key, data, "files") as presented, path.open("rb") as file:
        form = _Form(path.name, wishes["purpose"], wishes["hours"], file)
        made = _told(Client(url, presented), "POST", "/v1/files", form.pieces(), form.headers)
    if as_json:
        print_json(made)
    else:
        click.echo(f"{made['id']}  {made['bytes']:,} bytes, {made['purpose']}, {made['filename']}")


@examples("files get file-0123456789ab", "files get file-0123456789ab --to - | jq .")
@command.command()
@click.argument("name", metavar="ID")
@click.option(
    "--to", "target", metavar="PATH", help="Where to; - is standard output. [default: its own name, here]"
)
@_url_option
@_key_option
@data_option
@json_option
def get(name: str, target: str | None, url: str, key: str | None, data: str | None, as_json: bool) -> None:
    """Fetch a file. None that is there already is written over."""
    with key_for(url, key, data, "files") as presented:
        client = Client(url, presented)
        shown = _told(client, "GET", f"/v1/files/{quote(name, safe='')}")
        path = Path(target or _here(shown["filename"]))
        with client.exchange("GET", f"/v1/files/{quote(name, safe='')}/content") as answer:
            if target == "-":
                _copy(answer.read, sys.stdout.buffer, shown["bytes"])
                return
            _keep(answer.read, path, shown["bytes"])
    if as_json:
        print_json({"path": str(path), **shown})
    else:
        click.echo(f"{path}  {shown['bytes']:,} bytes")


@examples("files delete file-0123456789ab")
@command.command()
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@_url_option
@_key_option
@data_option
@json_option
def delete(names: tuple[str, ...], url: str, key: str | None, data: str | None, as_json: bool) -> None:
    """Delete files."""
    with key_for(url, key, data, "files") as presented:
        for name in names:
            said = _told(Client(url, presented), "DELETE", f"/v1/files/{quote(name, safe='')}")
            if as_json:
                print_json(said)
            else:
                click.echo(f"{name} is deleted.")


def _told(client: Client, *asked: Any) -> Any:
    with client.exchange(*asked) as answer:
        return msgspec.json.decode(answer.read())


class _Form:
    """A form that brings a file, in pieces."""

    def __init__(self, name: str, purpose: str, hours: int | None, file: BinaryIO) -> None:
        boundary = secrets.token_hex(16)
        fields = {"purpose": purpose}
        if hours is not None:
            fields |= {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(hours * 3600)}
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
            for field, value in fields.items()
        ]
        safe = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")  # as browsers write it
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{safe}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        self._head, self._tail = "".join(parts).encode(), f"\r\n--{boundary}--\r\n".encode()
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self.headers = {
            "content-type": f"multipart/form-data; boundary={boundary}",
            "content-length": str(len(self._head) + self._size + len(self._tail)),
        }

    def pieces(self) -> Iterator[bytes]:
        """Yield the form; a file that becomes shorter meanwhile ends it."""
        yield self._head
        left = self._size
        while left:
            data = self._file.read(min(_SLICE, left))
            if not data:
                raise Failed("The file became shorter while it was read.", "file_changed")
            left -= len(data)
            yield data
        yield self._tail


def _here(name: str) -> str:
    """Return a name of another's choice as one in this folder, and not hidden."""
    return Path(name).name.lstrip(".") or "file"


def _keep(read: Callable[[int], bytes], path: Path, size: int) -> None:
    try:
        with path.open("xb") as file:
            _copy(read, file, size)
    except FileExistsError as fault:
        raise Unusable(f"{path} is there already. Name another with --to PATH.") from fault
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _copy(read: Callable[[int], bytes], target: BinaryIO, size: int) -> None:
    while data := read(_SLICE):
        target.write(data)
        size -= len(data)
    if size:
        raise Failed("The file did not come whole. Fetch it again.", "cut_off")
