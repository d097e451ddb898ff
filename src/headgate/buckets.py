"""How batches go to a provider, also through a bucket at an object store that it reads. Plain values."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Handover(NamedTuple):
    """What the settings say of batches at a provider's own API."""

    lines: int = 0  # requests of one; 0: as many as its API takes
    least: int = 0  # fewer it does not get as a batch; 0: as its API has it
    account: str = ""  # in which they are made
    models: Mapping[str, str] = MappingProxyType({})  # what that calls them, where lines are calls there


class Bucket(NamedTuple):
    """Where it is, and where in it."""

    scheme: str  # of its URL: `gs`, `s3`
    name: str
    prefix: str  # of the names of all objects; empty, or ends with a slash
    endpoint: str  # the URL that it is asked at
    host: str  # the host of that, with its port where that is not the usual one
    role: str = ""  # what the provider takes on to read and write it

    def url(self, name: str) -> str:
        """Return the URL of an object, as its provider is told it."""
        return f"{self.scheme}://{self.name}/{name}"
