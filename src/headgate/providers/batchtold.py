"""What OpenAI's batch API answers, and hosts with the same one: a name, a batch, a page of them, a line.

Each reader raises `UpstreamInterrupted` where an answer cannot be read.
"""

from __future__ import annotations

import msgspec

from headgate.providers.batchread import reader


class _Id(msgspec.Struct, frozen=True):
    id: str


class _Wrong(msgspec.Struct, frozen=True):
    code: str | None = None
    message: str | None = None
    line: int | None = None


class _Errors(msgspec.Struct, frozen=True):
    data: tuple[_Wrong, ...] = ()


class _Batch(msgspec.Struct, frozen=True):
    id: str
    status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: _Errors | None = None


class _Listed(msgspec.Struct, frozen=True):
    id: str
    created_at: int | str = 0
    input_file_id: str | None = None
    metadata: dict[str, str] | None = None


class _Page(msgspec.Struct, frozen=True):
    data: tuple[_Listed, ...]
    has_more: bool = False


class _Response(msgspec.Struct, frozen=True):
    status_code: int
    body: msgspec.Raw = msgspec.Raw(b"null")


class Why(msgspec.Struct, frozen=True):
    """Why a line has no answer."""

    code: str | None = None
    message: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    custom_id: str
    response: _Response | None = None
    error: Why | None = None


told_id = reader(msgspec.json.Decoder(_Id))
told_batch = reader(msgspec.json.Decoder(_Batch))
told_page = reader(msgspec.json.Decoder(_Page))
told_answer = reader(msgspec.json.Decoder(_Answer))
