"""Blobs in a bucket of S3, or of what speaks like it: MinIO, R2, Ceph, Garage and others.

A blob of up to 8 MiB is one PUT, a longer one a multipart upload of parts of that size, so that memory holds
no more of it. Requests go the way of all others: through the transport, its egress rules, deadlines and
proxies. The bucket is in the path, which all of them understand. What fails for a moment is tried again;
callers are not told where it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.errors import CallerGone, GatewayError, StorageFull, Unavailable, UpstreamError
from headgate.ports import Request
from headgate.values import Deadlines, Host, Model, Target
from headgate.wire.sigv4 import EMPTY, Ask, signed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from headgate.credentials import AccessKeys
    from headgate.ports import Clock, Exchange, Head, Transport
    from headgate.wire.forms import Buffer

PART: Final = 8 << 20
_SMALL: Final = 64 * 1024  # bytes that are hashed faster than a thread is asked
_TRIES: Final = 4
_FIRST_REST_S: Final = 0.2
_MOST_ANSWER: Final = 1 << 20  # bytes of an answer that is no blob
_DEADLINES: Final = Deadlines(connect_s=5.0, first_byte_s=60.0, between_frames_s=60.0, total_s=590.0)
_UPLOAD: Final = re.compile(rb"<UploadId>([^<]{1,2048})</UploadId>")
_CODE: Final = re.compile(rb"<Code>([A-Za-z0-9]{1,100})</Code>")
_FULL: Final = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"})


class Bucket(NamedTuple):
    """Where blobs are."""

    endpoint: str  # `https://s3.eu-central-1.amazonaws.com`
    host: str  # its host, and its port where that is not the usual one
    region: str
    name: str
    prefix: str  # of every key; empty, or ends with a slash
    keys: AccessKeys


class _Answer(NamedTuple):
    head: Head
    body: bytes

    @property
    def code(self) -> str:
        """Return the error that it says, if any: a completed upload may say one under the status 200."""
        found = _CODE.search(self.body)
        return found[1].decode() if found is not None else ""


class _Again(Exception):
    """It may go well the next time."""


class S3Blobs:
    """The blobs of one bucket.

    Args:
        bucket: where they are.
        transport: to it.
        clock: wall time, which signatures are made with.
        trouble: told what went wrong, for who runs the gateway.
    """

    def __init__(
        self, bucket: Bucket, transport: Transport, clock: Clock, trouble: Callable[[str], None]
    ) -> None:
        self._bucket = bucket
        self._transport = transport
        self._clock = clock
        self._trouble = trouble
        host = Host(name="files", base_url=bucket.endpoint)
        self._target = Target(host=host, model=Model(name=""), prices=None, deadlines=_DEADLINES)

    async def begin(self, name: str) -> _Writer:
        """Begin to write a blob."""
        return _Writer(self, name)

    async def read(self, name: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Return bytes of a blob, a part at a time, so that a slow reader keeps no request for long."""
        while start < end:
            last = min(start + PART, end)
            exchange = await self._fetch(name, start, last)
            try:
                while start < last and (data := await self._read(exchange)):
                    yield data
                    start += len(data)
            finally:
                exchange.release()
            if start < last:
                raise self._failed(f"a blob has less than {last:,} bytes")

    async def remove(self, name: str) -> None:
        """Remove a blob, and what was begun of one."""
        await self.ask("DELETE", name, allowed=(404,))
        begun = await self.ask("GET", "", query=(("prefix", self._bucket.prefix + name), ("uploads", "")))
        for upload in _UPLOAD.findall(begun.body):
            query = (("uploadId", html.unescape(upload.decode("utf-8", "replace"))),)
            await self.ask("DELETE", name, query=query, allowed=(404,))

    async def close(self) -> None:
        """Nothing is open: the connections are the transport's."""

    # ── requests ────────────────────────────────────────────────────────────────────────────────

    async def ask(
        self,
        method: str,
        name: str,
        body: tuple[Buffer, ...] = (),
        *,
        query: tuple[tuple[str, str], ...] = (),
        sha256: str = EMPTY,
        allowed: tuple[int, ...] = (),
    ) -> _Answer:
        """Send a request that may be sent again, and return its answer.

        Args:
            method: of HTTP.
            name: of the blob; empty: the bucket itself.
            body: in pieces.
            query: not encoded.
            sha256: of the body.
            allowed: other statuses than 2xx that are well, too.

        Raises:
            Unavailable: it went wrong, several times where that could help.
        """
        said = ""
        for turn in range(_TRIES):
            if turn:
                await asyncio.sleep(_FIRST_REST_S * 2 ** (turn - 1))
            try:
                return await self._once(self._signed(method, name, query, sha256), body, allowed)
            except (_Again, UpstreamError, CallerGone) as fault:
                said = fault.in_full if isinstance(fault, GatewayError) else str(fault)
        raise self._failed(said)

    async def _once(self, request: Request, body: tuple[Buffer, ...], allowed: tuple[int, ...]) -> _Answer:
        exchange = await self._transport.acquire(self._target)
        try:
            exchange.send(Request(request.method, request.path, request.headers, b"", "", body))
            head, parts, size = await exchange.head(), list[bytes](), 0
            while (data := await exchange.read()) and size < _MOST_ANSWER:
                parts.append(data)
                size += len(data)
        finally:
            exchange.release()
        answer = _Answer(head, b"".join(parts))
        self._check(answer, allowed)
        return answer

    async def _fetch(self, name: str, start: int, end: int) -> Exchange:
        """Return an exchange whose answer is a range of a blob."""
        said = ""
        for turn in range(_TRIES):
            if turn:
                await asyncio.sleep(_FIRST_REST_S * 2 ** (turn - 1))
            request = self._signed("GET", name)
            ranged = (*request.headers, ("range", f"bytes={start}-{end - 1}"))
            try:
                return await self._begun(Request("GET", request.path, ranged, b"", ""))
            except (_Again, UpstreamError, CallerGone) as fault:
                said = fault.in_full if isinstance(fault, GatewayError) else str(fault)
        raise self._failed(said)

    async def _begun(self, request: Request) -> Exchange:
        exchange = await self._transport.acquire(self._target)
        try:
            exchange.send(request)
            head = await exchange.head()
            if head.status != 206:
                self._refuse_range(_Answer(head, await exchange.read()))
        except BaseException:
            exchange.abort()
            raise
        return exchange

    def _refuse_range(self, answer: _Answer) -> None:
        self._check(answer, ())
        raise _Again(f"a range was answered with {answer.head.status}")

    async def _read(self, exchange: Exchange) -> bytes:
        try:
            return await exchange.read()
        except UpstreamError as fault:
            raise self._failed(fault.in_full) from fault

    def _signed(
        self, method: str, name: str, query: tuple[tuple[str, str], ...] = (), sha256: str = EMPTY
    ) -> Request:
        bucket = self._bucket
        path = f"/{bucket.name}/{bucket.prefix}{name}" if name else f"/{bucket.name}"
        ask = Ask(method, bucket.host, path, query, sha256)
        headers = signed(ask, bucket.keys, bucket.region, "s3", self._clock.wall())
        return Request(method, ask.target, headers, b"", "")

    def _check(self, answer: _Answer, allowed: tuple[int, ...]) -> None:
        """See that an answer is well."""
        status, code = answer.head.status, answer.code
        if status in allowed or (status < 300 and not answer.body.lstrip()[:200].count(b"<Error>")):
            return
        said = f"it answered {status} {code}".rstrip()
        if code in _FULL or status == 507:
            self._trouble(f"the bucket {self._bucket.name}: {said}")
            raise StorageFull(
                "The storage of files has no room left. Delete files that are no longer needed, or ask who "
                "runs this gateway."
            )
        if status >= 500 or status == 429 or status < 300 or code in {"SlowDown", "RequestTimeout"}:
            raise _Again(said)
        raise self._failed(said)

    def _failed(self, said: str) -> Unavailable:
        """Return what callers are told; the log has what it was."""
        self._trouble(f"the bucket {self._bucket.name}: {said}")
        return Unavailable("The storage of files does not answer. Try again in a moment.")


class _Writer:
    """Writes one blob: at once where it is short, else part by part."""

    def __init__(self, blobs: S3Blobs, name: str) -> None:
        self._blobs = blobs
        self._name = name
        self._pieces: list[Buffer] = []
        self._size = 0
        self._hash = hashlib.sha256()
        self._upload = ""
        self._tags: list[str] = []
        self._over = False

    async def write(self, data: Buffer) -> None:
        """Append bytes; what makes a part is sent."""
        left = memoryview(data)
        while left:
            taken = left[: PART - self._size]
            left = left[len(taken) :]
            self._pieces.append(taken)
            self._size += len(taken)
            if len(taken) <= _SMALL:
                self._hash.update(taken)
            else:
                await asyncio.to_thread(self._hash.update, taken)
            if self._size == PART:
                await self._send_part()

    async def commit(self) -> None:
        """Make it whole."""
        if not self._upload:
            await self._blobs.ask("PUT", self._name, tuple(self._pieces), sha256=self._hash.hexdigest())
        else:
            if self._pieces:
                await self._send_part()
            await self._complete()
        self._over = True

    async def abort(self) -> None:
        """Remove what there is."""
        if not self._over:
            self._over = True
            self._pieces = []
            await self._blobs.remove(self._name)

    async def _send_part(self) -> None:
        if not self._upload:
            begun = await self._blobs.ask("POST", self._name, query=(("uploads", ""),))
            found = _UPLOAD.search(begun.body)
            if found is None:
                raise Unavailable("The storage of files does not answer. Try again in a moment.")
            self._upload = html.unescape(found[1].decode("utf-8", "replace"))
        query = (("partNumber", str(len(self._tags) + 1)), ("uploadId", self._upload))
        answer = await self._blobs.ask(
            "PUT", self._name, tuple(self._pieces), query=query, sha256=self._hash.hexdigest()
        )
        self._tags.append((answer.head.get(b"etag") or b"").decode("latin-1"))
        self._pieces, self._size, self._hash = [], 0, hashlib.sha256()

    async def _complete(self) -> None:
        parts = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{html.escape(tag, quote=False)}</ETag></Part>"
            for n, tag in enumerate(self._tags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        sha256 = hashlib.sha256(body).hexdigest()
        await self._blobs.ask("POST", self._name, (body,), query=(("uploadId", self._upload),), sha256=sha256)
