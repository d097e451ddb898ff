"""Where files are kept, and how much of them: the part of the configuration that is about files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from headgate.settings.upstreams import ConfigError, secret
from headgate.transport.egress import parse_origin

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_MB, _MOST_GB = 1 << 20, 1 << 30
S3: Final = "s3://"
_PLACE: Final = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([A-Za-z0-9._/-]*))?")


class FileSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The files that callers bring to `/v1/files` and `/v1/uploads`, and those that batches make."""

    storage: str = ""  # a folder, or `s3://BUCKET/PREFIX`; empty: `files` in the data folder
    endpoint: str = ""  # of S3: `https://minio.example:9000`; empty: AWS's in `region`
    region: str = "us-east-1"  # of S3
    key_id: str = "env:AWS_ACCESS_KEY_ID"  # of S3: `env:NAME`, `file:PATH` or itself
    key: str = "env:AWS_SECRET_ACCESS_KEY"  # the secret that goes with `key_id`
    session: str = "env:AWS_SESSION_TOKEN"  # of keys that expire; empty for others
    file_mb: int = 512  # of one file; above it is 413
    upload_gb: float = 8.0  # of one that is put together of parts (GiB, as OpenAI counts them)
    project_gb: float = 100.0  # of all files of a project; 0: as many as there is room for
    account_gb: float = 1000.0  # of all files of an account; 0: as many as there is room for

    def wrong(self) -> str:
        """Return what is wrong; empty where nothing is."""
        if not 1 <= self.file_mb <= _MOST_MB:
            return f"file_mb {self.file_mb} is not between 1 and {_MOST_MB}"
        if not 0 < self.upload_gb <= _MOST_MB:
            return f"upload_gb {self.upload_gb:g} is not above 0 and at most {_MOST_MB}"
        for name in ("project_gb", "account_gb"):
            if not 0 <= getattr(self, name) <= _MOST_GB:
                return f"{name} {getattr(self, name):g} is not between 0 and {_MOST_GB}"
        return ""

    @property
    def bucket(self) -> Place | None:
        """Return the bucket that files are in; None where they are in a folder."""
        found = _PLACE.fullmatch(self.storage)
        if found is None:
            return None
        endpoint = self.endpoint.rstrip("/") or f"https://s3.{self.region}.amazonaws.com"
        prefix = (found[2] or "").strip("/")
        return Place(endpoint, parse_origin(endpoint).authority, found[1], f"{prefix}/" if prefix else "")


class Place(NamedTuple):
    """A bucket: whom to ask, the name of that in a request, and where in it."""

    endpoint: str
    host: str
    name: str
    prefix: str


def file_settings(settings: FileSettings, env: Mapping[str, str], dotenv: Mapping[str, str]) -> FileSettings:
    """Return settings that are right, with their secrets where they are needed.

    Raises:
        ConfigError: one is wrong.
    """
    if said := settings.wrong():
        raise ConfigError(f"files: {said}.")
    if not settings.storage.startswith(S3):
        if "://" in settings.storage:
            raise ConfigError(
                f"files.storage {settings.storage!r} is neither a folder nor s3://BUCKET/PREFIX."
            )
        return settings
    try:
        place = settings.bucket
    except ValueError as fault:
        raise ConfigError(f"files.endpoint {settings.endpoint!r} is wrong: {fault}.") from fault
    if place is None or "//" in place.prefix or ".." in place.prefix:
        raise ConfigError(f"files.storage {settings.storage!r} is not s3://BUCKET/PREFIX.")
    names = ("key_id", "key", "session")
    found = {name: secret(getattr(settings, name), f"files.{name}", env, dotenv) for name in names}
    for name in names[:2]:
        if not found[name]:
            raise ConfigError(
                f"files.{name}: {getattr(settings, name) or 'it'} is empty. Set it: files are to be kept in "
                f"{settings.storage}."
            )
    return msgspec.structs.replace(settings, **found)
