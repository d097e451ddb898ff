"""Content that is kept for a while, sealed: who has its file alone cannot read it.

What it is sealed with is derived from a secret outside of that file: the key encryption key of stored
secrets where there is one, else the data folder's pepper.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Final

from headgate.vaults.envelope import kek_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE: Final = 12
_ID: Final = 8


class Box:
    """Seal and open by AES-256-GCM. For any thread.

    Args:
        secrets: 32 bytes each, at least one. The first one seals; what any of them sealed is opened.
    """

    __slots__ = ("_ciphers", "_first", "_keys")

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._first = kek_id(secrets[0])
        self._keys = {kek_id(each): hmac.digest(each, b"headgate box\0", "sha256") for each in secrets}
        self._ciphers: dict[bytes, AESGCM] = {}

    def seal(self, data: bytes, bound: bytes) -> bytes:
        """Seal data for one place, which `bound` names: elsewhere it cannot be opened."""
        nonce = secrets.token_bytes(_NONCE)
        return self._first + nonce + self._cipher(self._first).encrypt(nonce, data, bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes | None:
        """Open what was sealed; None where its secret is not given here, or it was changed."""
        from cryptography.exceptions import InvalidTag

        name = sealed[:_ID]
        if name not in self._keys:
            return None
        try:
            return self._cipher(name).decrypt(sealed[_ID : _ID + _NONCE], sealed[_ID + _NONCE :], bound)
        except InvalidTag:
            return None

    def _cipher(self, name: bytes) -> AESGCM:
        if name not in self._ciphers:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._ciphers[name] = AESGCM(self._keys[name])
        return self._ciphers[name]
