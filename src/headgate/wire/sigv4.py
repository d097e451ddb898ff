"""AWS's Signature Version 4 as S3 and what speaks like it want it: the body's hash in a header.

Source: AWS, "Authenticating Requests (AWS Signature Version 4)", Amazon S3 API reference. Pure: keys and time
are given. Services other than S3 encode the path twice; for those there is botocore's signer
(`providers/bedrock`).
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from headgate.credentials import AccessKeys
    from headgate.values import Pairs, WallMicros

_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
EMPTY: Final = hashlib.sha256(b"").hexdigest()


class Ask(NamedTuple):
    """A request that is to be signed."""

    method: str
    host: str  # as in the `host` header, with its port where that is not the usual one
    path: str  # encoded
    query: tuple[tuple[str, str], ...] = ()  # not encoded
    body_sha256: str = EMPTY  # in hex

    @property
    def target(self) -> str:
        """Return the target of the request line."""
        query = canonical_query(self.query)
        return f"{self.path}?{query}" if query else self.path


def quoted(text: str) -> str:
    """Encode a part of a path or a query as AWS does: all but what RFC 3986 reserves for nothing."""
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode())


def canonical_query(query: tuple[tuple[str, str], ...]) -> str:
    """Return a query as it is signed and sent."""
    return "&".join(f"{name}={value}" for name, value in sorted((quoted(a), quoted(b)) for a, b in query))


def signed(ask: Ask, keys: AccessKeys, region: str, service: str, at: WallMicros) -> Pairs:
    """Return the headers that a signed request has besides `host`."""
    stamp = datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = [("host", ask.host), ("x-amz-content-sha256", ask.body_sha256), ("x-amz-date", stamp)]
    if keys.session:
        headers.append(("x-amz-security-token", keys.session))
    names = ";".join(name for name, _ in headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers)
    canonical = "\n".join((ask.method, ask.path, canonical_query(ask.query), lines, names, ask.body_sha256))
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = "\n".join((_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{keys.secret}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"Credential={keys.id}/{scope}"
    authorization = f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={key.hex()}"
    return (*headers[1:], ("authorization", authorization))
