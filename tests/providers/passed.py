"""A batch of ours with one part at a provider, and the target that has it, for the tests of wires."""

from __future__ import annotations

import json

from headgate.values import Book, Host, Model, Target
from headgate.wire.batchjobs import BatchJob, Part, Passed


def target_of(name: str = "p") -> Target:
    return Target(
        host=Host(name=name, base_url="http://p/v1"),
        model=Model(name="m"),
        prices=None,
        headers=(("authorization", "Bearer k"), ("content-type", "application/json")),
        base_path="/v1",
    )


def job_of(file: str = "file-there", endpoint: str = "/v1/chat/completions", created_at: int = 1) -> BatchJob:
    return BatchJob(
        id="batch_ours", call=bytes(16), account=1, project=1, key=1, member=0, book=Book.REAL,
        endpoint=endpoint, input_file="file-ours", created_at=created_at, expires_at=1,
        passed=Passed(provider="p", upstream="m", parts=(Part(until=9, lines=9, file=file),)),
    )  # fmt: skip


def said(value: object) -> bytes:
    """Return an answer's body."""
    return json.dumps(value).encode()
