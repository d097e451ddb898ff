"""Keys that are lent to a browser for minutes: they open sessions of the Realtime API and do nothing else.

A loan holds all of itself: whose key it stands for (by the digest that is stored of it), until when, and
the settings that its sessions begin with; a MAC under the gateway's own secret proves it, so nothing is
stored and every worker knows it. A key that is revoked ends its loans. Source of the form: OpenAI's client
secrets (`ek_...`, `RealtimeCreateClientSecretRequest`).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import zlib
from typing import Final

import msgspec

PREFIX: Final = b"ek_"
_MAC = 16
_LARGEST = 64 * 1024  # bytes of a loan, unpacked
_PURPOSE = b"realtime client secret\0"


class Loan(msgspec.Struct, frozen=True, array_like=True):
    """What is lent."""

    digest: bytes  # of the key that it stands for
    expires_at: int  # Unix seconds
    session: bytes  # JSON: the settings


def lend(mac: hmac.HMAC, loan: Loan) -> bytes:
    """Return a loan as the text of a key.

    Args:
        mac: keyed, and fed with nothing yet.
        loan: what is lent.
    """
    packed = zlib.compress(msgspec.msgpack.encode(loan), 9)
    return PREFIX + base64.urlsafe_b64encode(_sign(mac, packed) + packed).rstrip(b"=")


def read_loan(mac: hmac.HMAC, token: bytes) -> Loan | None:
    """Return what was lent; None where the text is not one of ours."""
    body = token.removeprefix(PREFIX)
    try:
        raw = base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4))
    except (binascii.Error, ValueError):
        return None
    sign, packed = raw[:_MAC], raw[_MAC:]
    if not hmac.compare_digest(sign, _sign(mac, packed)):
        return None
    return msgspec.msgpack.decode(zlib.decompressobj().decompress(packed, _LARGEST), type=Loan)


def _sign(mac: hmac.HMAC, packed: bytes) -> bytes:
    mac.update(_PURPOSE + packed)
    return mac.digest()[:_MAC]
