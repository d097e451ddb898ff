"""Envelopes for stored secrets: a key of their own each, wrapped by a key that the database never sees.

The key encryption key (KEK) is 32 bytes from a file outside the data folder or from the environment. A
secret is sealed by AES-256-GCM under a data key, the data key under the KEK; both are bound to the row that
they stand in, so what is copied into another row cannot be opened.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

KEK_BYTES: Final = 32
_NONCE: Final = 12
_ID: Final = 8


class SealError(Exception):
    """A secret that cannot be opened: says why and what to do."""


class SecretGone(SealError):
    """There is no such secret, or none for this host."""


class Slip(msgspec.Struct, frozen=True):
    """Where a sealed secret stands: it can be opened nowhere else."""

    row: int
    name: str
    host: str  # the origin that it is for
    version: int

    def bound(self, column: str) -> bytes:
        """Return what a column's ciphertext is bound to."""
        return json.dumps(["secrets", self.row, self.name, self.host, self.version, column]).encode()


class Sealed(msgspec.Struct, frozen=True):
    """A sealed secret."""

    wrapped: bytes  # which KEK, a nonce, and the data key under it
    nonce: bytes
    sealed: bytes


def parse_kek(text: str) -> bytes:
    """Return a KEK from 64 hex digits or base64.

    Raises:
        SealError: it is neither, or not 32 bytes. Repeats nothing of it.
    """
    text = text.strip()
    try:
        kek = bytes.fromhex(text) if len(text) == 2 * KEK_BYTES else base64.b64decode(text, validate=True)
    except ValueError:
        kek = b""
    if len(kek) != KEK_BYTES:
        raise SealError(
            "The key encryption key is not 32 bytes in hex or base64. `headgate secrets new-kek` prints one."
        )
    return kek


def new_kek() -> str:
    """Return a new KEK, in hex."""
    return secrets.token_hex(KEK_BYTES)


def kek_id(kek: bytes) -> bytes:
    """Return what names a KEK and says nothing of it."""
    return hashlib.sha256(b"headgate kek\0" + kek).digest()[:_ID]


def seal(kek: bytes, slip: Slip, text: str) -> Sealed:
    """Seal a secret for one row."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key, nonce = AESGCM.generate_key(8 * KEK_BYTES), secrets.token_bytes(_NONCE)
    sealed = AESGCM(key).encrypt(nonce, text.encode(), slip.bound("sealed"))
    return Sealed(_wrap(kek, slip, key), nonce, sealed)


def unseal(keks: Iterable[bytes], slip: Slip, sealed: Sealed) -> str:
    """Open a secret with whichever of some KEKs it was sealed.

    Raises:
        SealError: with none of them, or it was changed or stood in another row.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key = _unwrap(keks, slip, sealed.wrapped)
    try:
        return AESGCM(key).decrypt(sealed.nonce, sealed.sealed, slip.bound("sealed")).decode()
    except InvalidTag as fault:
        raise _damaged(slip) from fault


def rewrap(keks: Iterable[bytes], kek: bytes, slip: Slip, sealed: Sealed) -> Sealed:
    """Wrap a secret's data key by another KEK; the secret itself is not opened.

    Raises:
        SealError: none of `keks` is the one that it was sealed with, or it was changed.
    """
    return msgspec.structs.replace(sealed, wrapped=_wrap(kek, slip, _unwrap(keks, slip, sealed.wrapped)))


def _wrap(kek: bytes, slip: Slip, key: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE)
    return kek_id(kek) + nonce + AESGCM(kek).encrypt(nonce, key, slip.bound("wrapped"))


def _unwrap(keks: Iterable[bytes], slip: Slip, wrapped: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    kek = next((kek for kek in keks if kek_id(kek) == wrapped[:_ID]), None)
    if kek is None:
        raise SealError(
            f"The stored secret {slip.name!r} was sealed with a key encryption key that is not given here. "
            "Give that one in HEADGATE_KEK, or as `kek` or `kek_old` of [secrets]."
        )
    nonce, key = wrapped[_ID : _ID + _NONCE], wrapped[_ID + _NONCE :]
    try:
        return AESGCM(kek).decrypt(nonce, key, slip.bound("wrapped"))
    except InvalidTag as fault:
        raise _damaged(slip) from fault


def _damaged(slip: Slip) -> SealError:
    return SealError(
        f"The stored secret {slip.name!r} cannot be opened: its row was changed. Store the secret again."
    )
