"""OAuth 2.0 grants: what is sent for a bearer token, and what comes back. No I/O.

A service account signs an assertion of itself (RFC 7523), a client shows its secret (RFC 6749, 4.4); any
grant's answer is JSON with `access_token` and `expires_in` (RFC 6749).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.wire.answers import NOT_JSON

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from headgate.credentials import TokenSource

FORM = "application/x-www-form-urlencoded"
_GRANT = b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion="
_VALID_S = 3600


class Granted(msgspec.Struct, frozen=True):
    """A token and how long it is good for, in seconds; 0: not said."""

    token: str
    lifetime_s: int = 0


def signing_key(pem: str) -> RSAPrivateKey:
    """Return the private key of a service account.

    Raises:
        ValueError: it is no RSA key in PEM, or is encrypted.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as fault:
        raise ValueError("its private key cannot be read") from fault
    if isinstance(key, RSAPrivateKey):
        return key
    raise ValueError("its private key is not of RSA")


def asked(source: TokenSource, now_s: int) -> bytes:
    """Return the body that asks for a token.

    Raises:
        ValueError: the account's key cannot be read.
    """
    if not source.secret:
        return assertion(source, now_s)
    form = {
        "grant_type": "client_credentials",
        "client_id": source.account,
        "client_secret": source.secret,
        "scope": source.scope,
    }
    return b"&".join(b"%b=%b" % (name.encode(), _escaped(value)) for name, value in form.items())


def _escaped(text: str) -> bytes:
    """Return a value of a form."""
    return re.sub(rb"[^A-Za-z0-9._~-]", lambda found: b"%%%02X" % found[0][0], text.encode())


def assertion(source: TokenSource, now_s: int) -> bytes:
    """Return the body that asks for a token for a service account.

    Raises:
        ValueError: its key cannot be read.
    """
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    claims = {
        "iss": source.account,
        "scope": source.scope,
        "aud": source.audience or source.url,
        "iat": now_s,
        "exp": now_s + _VALID_S,
    }
    head: dict[str, str] = {"alg": "RS256", "typ": "JWT"}
    if source.key_id:
        head["kid"] = source.key_id
    signed = b"%b.%b" % (_part(msgspec.json.encode(head)), _part(msgspec.json.encode(claims)))
    signature = signing_key(source.private_key).sign(signed, PKCS1v15(), SHA256())
    return b"%b%b.%b" % (_GRANT, signed, _part(signature))


def _part(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def read_token(answer: bytes) -> Granted:
    """Return the token of an answer: JSON of a grant, or, as commands print it, the token alone.

    Raises:
        ValueError: there is none.
    """
    text: Any = answer.decode("utf-8", "replace").strip()
    lifetime: Any = 0
    if text.startswith("{"):
        try:
            given = msgspec.json.decode(text)
        except NOT_JSON as fault:
            raise ValueError("the answer is neither JSON nor a token") from fault
        text, lifetime = given.get("access_token"), given.get("expires_in", 0)
    if not isinstance(text, str) or not text or not all("!" <= char <= "~" for char in text):
        raise ValueError("the answer holds no token")
    known = isinstance(lifetime, (int, float)) and 0 < lifetime < 1e8
    return Granted(text, int(lifetime) if known else 0)
