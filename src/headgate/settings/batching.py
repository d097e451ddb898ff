"""Whether batches can be passed to a provider, and in, through or from which places besides its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from headgate.providers.buckets import placed
from headgate.providers.registry import BATCH_CALLS, BATCHES, CODECS, known_hosts
from headgate.transport.egress import parse_origin
from headgate.transport.elsewhere import check_pattern

if TYPE_CHECKING:
    from headgate.buckets import Bucket
    from headgate.providers.buckets import Said
    from headgate.values import BatchRunner, Host

_ONE_BY_ONE: Final = (
    "batch = 'provider-first' is not for {!r}, which takes each line by itself. Say 'provider', or 'own'."
)
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


def bucket_of(host: Host, said: Said) -> Bucket | None:
    """Return the bucket through which batches go to a provider; None: there is none.

    Raises:
        ValueError: the settings mean none.
    """
    wire = BATCHES.get(host.batches or host.kind)
    objects = wire.objects if wire is not None else None
    if not said.url:
        return None
    if objects is None:
        raise ValueError(
            f"batch_bucket is for providers that read batches from buckets; {host.name!r} does not"
        )
    if lacking := objects.lacking(host):
        raise ValueError(f"batch_bucket {said.url} is asked with {lacking}")
    bucket = placed(objects, said, host.location)
    parse_origin(bucket.endpoint)
    return bucket


def check_hosts(host: Host, said: tuple[str, ...] | None) -> None:
    """Check the hosts that are named at which answers of batches may lie.

    Raises:
        ValueError: one is no host, or answers of this provider lie at no others.
    """
    if said is None:
        return
    wire = BATCHES.get(host.batches or host.kind)
    if wire is None or not wire.apart:
        raise ValueError(
            f"batch_hosts is for providers whose answers lie at other hosts; those of {host.name!r} do not"
        )
    for pattern in said:
        check_pattern(pattern)


def usual_hosts(kind: str) -> tuple[str, ...]:
    """Return the hosts at which answers lie of whatever speaks the wire of a known provider."""
    row = known_hosts().get(kind)
    return row.batch_hosts if row is not None else ()


def no_bounds(host: Host) -> str:
    """Return what is wrong with the bounds of a provider's batches; empty: nothing."""
    wire = BATCHES.get(host.batches or host.kind)
    if wire is None:
        return ""
    least = host.handover.least or wire.least_lines
    most = min(host.handover.lines or wire.most_lines, wire.most_lines)
    if least <= most:
        return ""
    return (
        f"a batch there has at most {most:,} requests (batch_lines, or what its API takes) and at least "
        f"{least:,} (batch_least, or what its API wants): there is none."
    )


def check_account(host: Host) -> None:
    """Check the account in which batches are made.

    Raises:
        ValueError: it is none, or this provider makes none in an account.
    """
    wire, account = BATCHES.get(host.batches or host.kind), host.handover.account
    if account and not (wire is not None and wire.accounts):
        raise ValueError(
            f"batch_account is for providers that make batches in an account; {host.name!r} does not"
        )
    if account and _ACCOUNT.fullmatch(account) is None:
        raise ValueError(f"batch_account {account!r} is no id of an account")


def check_models(host: Host) -> None:
    """Check who has endpoints for batches. Raises ValueError: this provider has none, or one has no name."""
    if host.handover.models and host.batches not in BATCH_CALLS:
        raise ValueError(f"batch_models is for the known hosts {', '.join(sorted(BATCH_CALLS))}")
    for model, endpoint in host.handover.models.items():
        if not endpoint.strip():
            raise ValueError(f"batch_models names no endpoint for {model!r}")


def unready(kind: str, host: Host | None, runner: BatchRunner) -> str:
    """Return what is wrong with passing batches to a host of a kind, if that is known; empty: nothing."""
    api = (host.batches if host is not None else "") or kind
    if api in BATCH_CALLS:
        return _ONE_BY_ONE.format(api) if runner == "provider-first" else ""
    wire = BATCHES.get(api)
    if wire is None:
        kinds, name = ", ".join(sorted(set(BATCHES) & set(CODECS))), host.name if host is not None else kind
        known = ", ".join(sorted((set(BATCHES) | set(BATCH_CALLS)) - set(CODECS)))
        return (
            f"batch = 'provider' and 'provider-first' are for the kinds {kinds}, and the known hosts "
            f"{known}; {name!r} has no batch API that is spoken here."
        )
    if wire.objects is not None and host is not None and host.bucket is None:
        return (
            f"batch_bucket is missing: {kind!r} reads batches from a bucket, such as "
            f"{wire.objects.scheme}://BUCKET/FOLDER, and writes answers to it. See docs/batches.md."
        )
    return wire.unfit(host) if host is not None else ""
