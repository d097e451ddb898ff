"""Where a gateway keeps what it knows, and whether that can be used. A part of `config`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

from headgate.program import without_password
from headgate.settings.upstreams import ConfigError, secret

if TYPE_CHECKING:
    from collections.abc import Mapping

_POSTGRES: Final = ("postgresql", "postgres")
_REDIS: Final = ("redis", "rediss", "unix")
_BROKERS: Final = ("amqp", "amqps", "redis", "rediss")
_LONGEST_PREFIX: Final = 64


class Storage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the books are."""

    data: str = "./headgate-data"  # folder of the books, the journal and the pepper
    node: str = ""  # name of this replica on a database that it shares; also `HEADGATE_NODE`; empty: made up
    database: str = ""  # `postgresql://…` or `env:NAME`; also `HEADGATE_DATABASE`; empty: SQLite in `data`
    redis: str = ""  # `redis://`, `rediss://` or `unix://`, or where that stands: `env:NAME`, `file:PATH`
    redis_prefix: str = "headgate"  # with which all names in Redis, and at the broker, begin
    queue: str = ""  # `amqp://`, `amqps://`, `redis://` or `rediss://`: calls `headgate worker` to batches
    sync: Literal["group", "before-send"] = "group"  # `before-send`: slower, exact also in a power cut
    journal_bound_mb: int = 64  # of settlements that the database refuses; then calls get 503
    journal_bound_s: float = 30.0  # how long calls go on while the database takes nothing; then they get 503
    keys_kept_s: float = 60.0  # how long keys are believed while the database does not answer; then 503
    journal_segment_kb: int = 8192  # of a journal's file
    keep_calls_days: int = 0  # 35 or more: older calls go (PostgreSQL: by month), their sums stay; 0: none


def storage_of(
    storage: Storage,
    flags: tuple[str | None, str | None],
    env: Mapping[str, str],
    dotenv: Mapping[str, str],
) -> Storage:
    """Return what is to be used of the settings; `flags` name the data folder and the database.

    Raises:
        ConfigError: it cannot be used; says what to do.
    """
    if storage.journal_bound_mb < 1 or not 64 <= storage.journal_segment_kb <= 1 << 20:
        raise ConfigError("storage: journal_bound_mb begins at 1, journal_segment_kb is 64 to 1048576.")
    if not (0 <= storage.journal_bound_s <= 86_400 and 5 <= storage.keys_kept_s <= 86_400):
        raise ConfigError("storage: journal_bound_s is 0 to 86400 seconds, keys_kept_s 5 to 86400.")
    if storage.keep_calls_days and not 35 <= storage.keep_calls_days <= 36_500:
        raise ConfigError(
            "storage: keep_calls_days is 0, or 35 to 36500: budgets of a month need their calls."
        )
    data, database = flags
    known = database or env.get("HEADGATE_DATABASE") or dotenv.get("HEADGATE_DATABASE") or storage.database
    return msgspec.structs.replace(
        storage,
        data=data or env.get("HEADGATE_DATA") or storage.data,
        node=env.get("HEADGATE_NODE") or storage.node,
        database=database_url(known, env, dotenv),
        redis=redis_url(storage.redis, storage.redis_prefix, env, dotenv),
        queue=queue_url(storage.queue, env, dotenv),
    )


def database_url(value: str, env: Mapping[str, str], dotenv: Mapping[str, str]) -> str:
    """Return the address of a PostgreSQL database, with its password; empty where there is none.

    Raises:
        ConfigError: it cannot be used; says what to do.
    """
    url = secret(value, "storage.database", env, dotenv).strip()
    if value.startswith("env:") and not url:
        raise ConfigError(f"storage.database: the variable {value[4:]} is not set.")
    if url and _split(url, "database").scheme not in _POSTGRES:
        raise ConfigError(
            f"storage.database {without_password(url)!r} does not begin with postgresql://. Give "
            "postgresql://USER@HOST/NAME, or leave it empty for SQLite in the data folder."
        )
    if url and find_spec("asyncpg") is None:
        raise ConfigError(
            "storage.database: the client is missing. Install it: pip install 'headgate[postgres]'."
        )
    return url


def redis_url(value: str, prefix: str, env: Mapping[str, str], dotenv: Mapping[str, str]) -> str:
    """Return the URL of the Redis of the settings, with its password; empty where there is none.

    Raises:
        ConfigError: it cannot be used; says what to do.
    """
    if not prefix or len(prefix) > _LONGEST_PREFIX or not prefix.isprintable() or set(prefix) & set(" {}*"):
        raise ConfigError(
            f"storage.redis_prefix {prefix!r} is not 1 to {_LONGEST_PREFIX} characters without spaces, "
            "braces and asterisks, such as headgate."
        )
    url = secret(value, "storage.redis", env, dotenv).strip()
    if not url and value:
        raise ConfigError(f"storage.redis: {value} is not set, or empty. Set it, or leave redis out.")
    if not url:
        return ""
    parts, shown = _split(url, "redis"), without_password(url)
    if parts.scheme not in _REDIS:
        raise ConfigError(f"storage.redis {shown!r} does not begin with redis://, rediss:// or unix://.")
    try:
        wrong = not parts.path if parts.scheme == "unix" else not parts.hostname or parts.port == 0
    except ValueError:
        wrong = True
    if wrong:
        raise ConfigError(
            f"storage.redis {shown!r} names no server: write redis://HOST:6379/0, or unix:///path/to/socket."
        )
    if parts.scheme != "unix" and parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise ConfigError(f"storage.redis {shown!r}: after the slash stands the number of a database.")
    if find_spec("redis") is None:
        raise ConfigError("storage.redis: the client is missing. Install it: pip install 'headgate[redis]'.")
    return url


def queue_url(value: str, env: Mapping[str, str], dotenv: Mapping[str, str]) -> str:
    """Return the URL of the broker of the settings, with its password; empty where there is none.

    Raises:
        ConfigError: it cannot be used; says what to do.
    """
    url = secret(value, "storage.queue", env, dotenv).strip()
    if not url:
        return ""
    parts, shown = _split(url, "queue"), without_password(url)
    if parts.scheme not in _BROKERS or not parts.hostname:
        raise ConfigError(
            f"storage.queue {shown!r} is no broker: write amqp://USER:PASSWORD@HOST:5672/, amqps://, "
            "redis://HOST:6379/0 or rediss://."
        )
    if find_spec("taskiq") is None:
        raise ConfigError("storage.queue: the client is missing. Install it: pip install 'headgate[queue]'.")
    return url


def _split(url: str, setting: str) -> SplitResult:
    """Return the parts of an address, unless a password holds a character that ends it too early."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is None or (parts.netloc and parts.scheme != "unix" and _is_misread(parts)):
        raise ConfigError(
            f"storage.{setting} {without_password(url)!r} cannot be read: in its password write % as %25, "
            "/ as %2F, ? as %3F, # as %23, @ as %40, [ as %5B and ] as %5D."
        ) from None
    return parts


def _is_misread(parts: SplitResult) -> bool:
    before, at, _ = parts.query.partition("@")
    return "@" in parts.path + parts.fragment or bool(at and "=" not in before)
