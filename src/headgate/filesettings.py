"""Where files are kept, and how much of them: the part of the configuration that is about files."""

from __future__ import annotations

import msgspec

from headgate.upstreams import ConfigError

_MOST_MB, _MOST_GB = 1 << 20, 1 << 30


class FileSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The files that callers bring to `/v1/files` and `/v1/uploads`, and those that batches make."""

    storage: str = ""  # a folder; empty: `files` in the data folder
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


def file_settings(settings: FileSettings) -> FileSettings:
    """Return settings that are right.

    Raises:
        ConfigError: one is wrong.
    """
    if said := settings.wrong():
        raise ConfigError(f"files: {said}.")
    return settings
