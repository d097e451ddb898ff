"""What batches ask of a running gateway: files up and down, and the batch itself."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from headgate.cli.client import Client, Refused
from headgate.cli.exits import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DONE: Final = frozenset({"completed", "failed", "cancelled", "expired"})
CHAT: Final = "/v1/chat/completions"
_SLICE: Final = 1 << 20


class BatchClient(Client):
    """Speaks to one gateway about batches."""

    def upload(self, path: Path) -> str:
        """Upload the input of a batch; return the id of the file.

        Raises:
            Failed: it cannot be read.
            Refused: the gateway does not take it.
        """
        border = secrets.token_hex(16)
        head = (
            f'--{border}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--{border}\r\n'
            'Content-Disposition: form-data; name="file"; filename="batch.jsonl"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        ).encode()
        tail = f"\r\n--{border}--\r\n".encode()
        try:
            with path.open("rb"):  # what is wrong with it is not the gateway's
                size = len(head) + path.stat().st_size + len(tail)
            headers = {
                "content-type": f"multipart/form-data; boundary={border}",
                "content-length": str(size),
            }
            with self.sent("POST", "/v1/files", _parts(head, path, tail), headers) as response:
                answer = msgspec.json.decode(response.read())
                status = response.status
        except OSError as fault:
            raise Failed(f"Cannot read {path}: {fault.strerror or fault}.") from fault
        if status >= 400:
            error = answer.get("error") or {}
            raise Refused(status, f"{error.get('message')} (HTTP {status})", error.get("code"))
        return str(answer["id"])

    def create(self, file_id: str, endpoint: str, metadata: dict[str, str], once: str = "") -> dict[str, Any]:
        """Order a batch; of several orders with the same `once` the first is made."""
        body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h"}
        content = msgspec.json.encode({**body, "metadata": metadata or None})
        headers = {"content-type": "application/json", "content-length": str(len(content))}
        headers |= {"idempotency-key": once} if once else {}
        with self.exchange("POST", "/v1/batches", [content], headers) as response:
            made: dict[str, Any] = msgspec.json.decode(response.read())
        return made

    def find(self, name: str) -> dict[str, Any]:
        """Return a batch."""
        found: dict[str, Any] = self.ask("GET", _place(name))
        return found

    def cancel(self, name: str) -> dict[str, Any]:
        """Cancel a batch; return it."""
        found: dict[str, Any] = self.ask("POST", f"{_place(name)}/cancel", {})
        return found

    def results(self, name: str, after: int) -> dict[str, Any]:
        """Return the results that came behind another, and how the batch stands."""
        found: dict[str, Any] = self.ask("GET", f"{_place(name)}/results?after={after}")
        return found

    def lines(self, file_id: str | None) -> Iterator[bytes]:
        """Yield the lines of a file; none where there is none."""
        if not file_id:
            return
        with self.asked("GET", f"/v1/files/{file_id}/content", None) as response:
            if response.status != 200:
                raise Refused(response.status, f"The file {file_id} cannot be had.", None)
            yield from response


def _place(name: str) -> str:
    return f"/v1/batches/{quote(name, safe='')}"


def _parts(head: bytes, path: Path, tail: bytes) -> Iterator[bytes]:
    yield head
    with path.open("rb") as file:
        while data := file.read(_SLICE):
            yield data
    yield tail


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole, or as it was. Raises `Failed`."""
    fresh = path.with_name(path.name + ".new")
    with writing(path):
        try:
            fresh.write_bytes(content)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        os.replace(fresh, path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a message with the name of the file. Raises `Failed`."""
    try:
        yield
    except OSError as fault:
        raise Failed(f"Cannot write {path}: {fault.strerror or fault}.", "cannot_write") from fault
