"""What lies in a bucket of ours: the lines of batches for their provider, and the answers that it writes.

No I/O. S3 and Google's Cloud Storage take the same requests: the bucket in the path, objects by PUT, GET and
DELETE, lists as XML; they differ in who asks. Each part of a batch has a folder of its own, so a kill leaves
nothing that is not found again by its name, and what was laid down for a batch is removed with it.

Source: Amazon S3's API reference (PutObject, GetObject, DeleteObject, ListObjectsV2), Google's reference of
the XML API (`list-type=2`, OAuth tokens).
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, Protocol

import msgspec

from headgate.buckets import Bucket
from headgate.errors import UpstreamDenied, UpstreamFailed, UpstreamOverloaded
from headgate.ports import Request
from headgate.providers.batchdefaults import ReadyAtOnce
from headgate.providers.batches import tag
from headgate.providers.batchread import unread
from headgate.providers.codec import headers_of
from headgate.providers.refusals import no_credential, retry_after
from headgate.wire.sigv4 import EMPTY, Ask, quoted, signed

if TYPE_CHECKING:
    from headgate.errors import UpstreamError
    from headgate.ports import Clock, Head
    from headgate.providers.batches import Bulk
    from headgate.values import Host, Pairs, Target
    from headgate.wire.batchjobs import BatchJob

_URL: Final = re.compile(r"([a-z0-9]+)://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/([A-Za-z0-9._/-]*))?")
_ROLE: Final = re.compile(r"arn:aws(-[a-z-]+)?:iam::[0-9]{12}:role/[!-~]+")
_KEY: Final = re.compile(rb"<Key>([^<]{1,4096})</Key>")
_MORE: Final = re.compile(rb"<NextContinuationToken>([^<]{1,4096})</NextContinuationToken>")
_CODE: Final = re.compile(rb"<Code>([A-Za-z0-9]{1,100})</Code>")
_INPUT: Final = "in.jsonl"
_OUTPUT: Final = "out"


class ObjectStore(Protocol):
    """How an object store is asked, on behalf of a host."""

    scheme: str
    roles: bool  # its provider reads it in a role that we name
    hashes: bool  # requests say the SHA-256 of what they bring
    answers: str  # how the names of objects end that hold answers

    def endpoint(self, location: str) -> str:
        """Return where it is asked, by the location of the host."""
        ...

    def lacking(self, host: Host) -> str:
        """Return what a host lacks to be asked for it; empty: nothing."""
        ...

    def headers(self, ask: Ask, target: Target) -> Pairs:
        """Return the headers of a request. Raises `UpstreamError`: there is no credential."""
        ...


class SignedStore:
    """S3: requests are signed with the keys of the host, for its region. Implements `ObjectStore`."""

    __slots__ = ("_clock",)
    scheme = "s3"
    roles = True
    hashes = True
    answers = ".jsonl.out"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def endpoint(self, location: str) -> str:
        """Return where a region's buckets are; China's have another domain."""
        return f"https://s3.{location}.amazonaws.com" + (".cn" if location.startswith("cn-") else "")

    def lacking(self, host: Host) -> str:
        """Return what is missing: an API key does not open buckets."""
        return (
            "" if host.signing is not None else "AWS's keys (access_key_id or profile); no API key opens it"
        )

    def headers(self, ask: Ask, target: Target) -> Pairs:
        """Return the headers of a request."""
        return signed_for(ask, target, "s3", self._clock)


class TokenStore:
    """Google's Cloud Storage: asked with the token of the host. Implements `ObjectStore`."""

    __slots__ = ()
    scheme = "gs"
    roles = False
    hashes = False
    answers = ".jsonl"

    def endpoint(self, location: str) -> str:
        """Return where all buckets are."""
        del location
        return "https://storage.googleapis.com"

    def lacking(self, host: Host) -> str:
        """Return what is missing: an API key does not open buckets."""
        return "" if host.tokens is not None else "service_account or token_command; no API key opens it"

    def headers(self, ask: Ask, target: Target) -> Pairs:
        """Return the headers of a request: the token alone."""
        del ask
        return tuple(row for row in headers_of(target) if row[0] == "authorization")


def signed_for(ask: Ask, target: Target, service: str, clock: Clock) -> Pairs:
    """Return the headers that sign a request to a service of the host's cloud.

    Raises:
        UpstreamError: there are no keys.
    """
    signing = target.host.signing
    if signing is None or signing.keys is None:
        raise no_credential(signing.trouble if signing is not None else "")
    return signed(ask, signing.keys, target.host.location, service, clock.wall())


class Said(NamedTuple):
    """What the settings say of a bucket."""

    url: str
    endpoint: str
    role: str


def placed(store: ObjectStore, said: Said, location: str) -> Bucket:
    """Return the bucket that the settings mean.

    Raises:
        ValueError: they mean none.
    """
    found = _URL.fullmatch(said.url)
    prefix = (found[3] or "").strip("/") if found is not None else ""
    if found is None or found[1] != store.scheme or {"", ".", ".."} & set(prefix.split("/")[: len(prefix)]):
        raise ValueError(
            f"batch_bucket {said.url!r} is not {store.scheme}://BUCKET or {store.scheme}://BUCKET/FOLDER"
        )
    if store.roles and _ROLE.fullmatch(said.role) is None:
        raise ValueError(
            f"batch_role {said.role!r} is not arn:aws:iam::ACCOUNT:role/NAME: the role in which the provider "
            "reads and writes batch_bucket"
        )
    endpoint = (said.endpoint or store.endpoint(location)).rstrip("/")
    host = endpoint.partition("://")[2].partition("/")[0]
    return Bucket(store.scheme, found[2], f"{prefix}/" if prefix else "", endpoint, host, said.role)


class Stored(ReadyAtOnce):
    """A wire whose lines and answers lie in a bucket."""

    __slots__ = ()
    files = True
    between = b"\n"
    varies = ""

    def send(self, job: BatchJob, target: Target, bulk: Bulk) -> NoReturn:
        """Refuse: lines are put into the bucket."""
        raise NotImplementedError(job.id, target.host.name, bulk.boundary)

    def content(self, target: Target, name: str) -> NoReturn:
        """Refuse: answers are in the bucket."""
        raise NotImplementedError(target.host.name, name)

    def mine(self, data: bytes, job: BatchJob) -> bool:
        """Say no: which batch is ours its name says."""
        del data, job
        return False


def bucket_of(target: Target) -> Bucket:
    """Return the bucket of a target's host.

    Raises:
        UpstreamDenied: it has none any more.
    """
    bucket = target.host.bucket
    if bucket is None:
        raise UpstreamDenied("The provider that has this batch has no batch_bucket in the settings any more.")
    return bucket


def input_of(job: BatchJob, bucket: Bucket) -> str:
    """Return the name of the lines of the last part."""
    return f"{bucket.prefix}{tag(job)}/{_INPUT}"


def output_of(job: BatchJob, bucket: Bucket) -> str:
    """Return what the names of the answers to the last part begin with."""
    return f"{bucket.prefix}{tag(job)}/{_OUTPUT}"


def all_of(job: BatchJob, bucket: Bucket) -> str:
    """Return what the names of all begin with that belongs to a batch of ours, and of nothing else."""
    return f"{bucket.prefix}{job.id}"


def name_in(url: str) -> str:
    """Return the name in the URL of what lies in a bucket. Raises `UpstreamInterrupted`: it has none."""
    name = url.partition("://")[2].partition("/")[2]
    if not name:
        raise unread(f"{url[:100]!r} is in no bucket")
    return name


# ── requests ────────────────────────────────────────────────────────────────────────────────────


def to_bucket(
    store: ObjectStore, target: Target, ask: tuple[str, str], brought: tuple[memoryview, str] | None = None
) -> Request:
    """Return a request for an object.

    Args:
        store: that it is in.
        target: whose bucket it is.
        ask: the method, and the name of the object.
        brought: its bytes, and the SHA-256 of them where the store wants that.
    """
    (method, name), bucket = ask, bucket_of(target)
    path = "/".join(quoted(part) for part in f"/{bucket.name}/{name}".split("/"))
    data, sha256 = brought or (memoryview(b""), EMPTY)
    headers = store.headers(Ask(method, bucket.host, path, (), sha256 or EMPTY), target)
    if brought is not None:
        headers = (*headers, ("content-type", "application/jsonl"))
    return Request(method, path, headers, b"", "req_batch", (data,) if data else ())


def list_in(store: ObjectStore, target: Target, begin: str, after: str) -> Request:
    """Return the request for a page of the names that begin so."""
    bucket = bucket_of(target)
    query = (("list-type", "2"), ("prefix", begin), *((("continuation-token", after),) if after else ()))
    ask = Ask("GET", bucket.host, f"/{bucket.name}", query)
    return Request("GET", ask.target, store.headers(ask, target), b"", "req_batch")


class Page(NamedTuple):
    """A page of a list."""

    names: tuple[str, ...]
    after: str  # where the next one begins; empty: nowhere


def page_of(body: bytes) -> Page:
    """Return what a page says. Raises `UpstreamInterrupted`: it is none."""
    if b"<ListBucketResult" not in body:
        raise unread("it is no list of what is in the bucket")
    names = tuple(html.unescape(name.decode("utf-8", "replace")) for name in _KEY.findall(body))
    more = _MORE.search(body)
    return Page(names, html.unescape(more[1].decode("utf-8", "replace")) if more is not None else "")


def at_bucket(target: Target) -> Target:
    """Return a target as its bucket is asked."""
    host = msgspec.structs.replace(target.host, base_url=bucket_of(target).endpoint)
    return msgspec.structs.replace(target, host=host)


def mistake(head: Head, body: bytes) -> UpstreamError:
    """Return what a refusing answer means: without the store's own words, which name what is in it."""
    found = _CODE.search(body)
    said = f"{head.status} {found[1].decode()}" if found is not None else str(head.status)
    if head.status in {408, 429, 503}:
        return UpstreamOverloaded(
            f"The bucket of this gateway's batches is overloaded ({said}).", retry_after_s=retry_after(head)
        )
    if head.status >= 500:
        return UpstreamFailed(
            f"The bucket of this gateway's batches failed ({said}).", upstream_status=head.status
        )
    return UpstreamDenied(
        f"The bucket through which this gateway's batches go to the provider refuses it ({said}). Whoever "
        "runs this gateway must see to it; your key is fine."
    )
