"""Keys: how they are written, and the ring in memory that recognises them.

A key is `sk-hg-live-`, `sk-hg-test-` or `sk-hg-adm-`, 43 random base62 characters (256 bits) and six
more with the CRC-32 of everything before them, so a mistyped or invented key costs no HMAC. Only
`HMAC-SHA-256(pepper, key)` is stored.
"""

from __future__ import annotations

import hmac
import re
import secrets
import string
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias
from zlib import crc32

import msgspec

from headgate.errors import AuthenticationFailed, CallerError, Unavailable
from headgate.identity.loans import Loan, lend, read_loan
from headgate.identity.standing import HOW, ceiling_now, halted, principal_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.records import KeyRow
    from headgate.values import Principal, WallMicros

Kind: TypeAlias = Literal["live", "test", "admin"]
KINDS: Final[tuple[Kind, ...]] = ("live", "test", "admin")
PREFIXES: Final[dict[Kind, str]] = {"live": "sk-hg-live-", "test": "sk-hg-test-", "admin": "sk-hg-adm-"}
OWN: Final = "sk-hg-"

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM, _CHECK = 43, 6
_SHAPE: Final = re.compile(rb"sk-hg-(?:live|test|adm)-[0-9A-Za-z]{49}").fullmatch
_VALUES: Final = bytes(_ALPHABET.find(chr(code)) % 256 for code in range(256))
_US: Final = 1_000_000
_KEPT: Final = 65_536  # keys in use whose principals are kept: some 30 MB


class MintedKey(msgspec.Struct, frozen=True):
    """A new key: its text, which is shown once, and what is stored of it."""

    text: str
    digest: bytes
    shown: str
    kind: Kind


class Directory(Protocol):
    """Where the ring looks for keys; a mapping will do."""

    def get(self, digest: bytes, /) -> KeyRow | None:
        """Return the key that has a secret with this digest."""
        ...


def mint(kind: Kind) -> str:
    """Return the text of a new key."""
    body = PREFIXES[kind] + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return body + _checksum(body.encode())


def mint_key(pepper: bytes, kind: Kind = "live") -> MintedKey:
    """Return a new key with what is stored of it."""
    text = mint(kind)
    return MintedKey(text, digest(pepper, text), shown(text), kind)


def well_formed(token: str | bytes) -> bool:
    """Say whether a text is written like a key of ours: shape, then checksum."""
    if isinstance(token, str):
        if not token.isascii():
            return False
        token = token.encode()
    if _SHAPE(token) is None:
        return False
    a, b, c, d, e, f = token[-_CHECK:].translate(_VALUES)
    return crc32(token[:-_CHECK]) == ((((a * 62 + b) * 62 + c) * 62 + d) * 62 + e) * 62 + f


def digest(pepper: bytes, token: str | bytes) -> bytes:
    """Return what is stored of a key: 32 bytes."""
    return hmac.digest(pepper, token.encode() if isinstance(token, str) else token, "sha256")


def shown(token: str) -> str:
    """Return what people see of a key of ours: its prefix, two characters and the last four."""
    prefix = token[: token.rindex("-") + 1]
    return f"{prefix}{token[len(prefix) : len(prefix) + 2]}…{token[-4:]}"


def mask(token: str | bytes) -> str:
    """Return what an error message may say of any presented key: at most seven characters."""
    text = token.decode("latin-1") if isinstance(token, bytes) else token
    text = "".join(char if " " < char <= "~" else "?" for char in (text[:5] + text[5:][-2:]))
    if len(token) < 16:
        return text[:2] + "***"
    return f"{text[:5]}***{text[5:]}"


def _checksum(body: bytes) -> str:
    value, digits = crc32(body), ""
    for _ in range(_CHECK):
        value, digit = divmod(value, 62)
        digits = _ALPHABET[digit] + digits
    return digits


class Trust(Enum):
    """How far what is known of keys is believed, by when the database last answered."""

    FULL = auto()
    KNOWN = auto()  # what is known is; a key that is not may be a new one
    NONE = auto()  # it was too long ago: a key may have been revoked


def _fully() -> Trust:
    return Trust.FULL


class Keyring:
    """Who each key stands for, found in a directory when it is first used. A new ring for each change.

    Args:
        pepper: the secret that digests were made with.
        directory: all stored keys, revoked and expired ones too, so that their refusal says so.
        playing: the simulator answers live keys too, in play money.
        trust: how far the directory is believed, asked when a key is not known already.
    """

    __slots__ = ("_active", "_directory", "_hmac", "_playing", "_trust")

    def __init__(
        self,
        pepper: bytes,
        directory: Directory,
        *,
        playing: bool = False,
        trust: Callable[[], Trust] | None = None,
    ) -> None:
        self._trust = trust or _fully
        self._hmac = hmac.new(pepper, digestmod="sha256")
        self._directory = directory
        self._playing = playing
        self._active: dict[bytes, Principal] = {}

    @staticmethod
    def extract(authorization: bytes | None, api_key: bytes | None, x_api_key: bytes | None) -> bytes | None:
        """Return the key of a request's headers, or None where there is none.

        Raises:
            CallerError: two different keys.
        """
        if api_key is None and x_api_key is None and authorization is not None:
            if authorization[:7] == b"Bearer ":
                return authorization[7:].strip() or None
            return _bearer(authorization)
        bearer = None if authorization is None else _bearer(authorization)
        given = {token.strip() for token in (bearer, api_key, x_api_key) if token and token.strip()}
        if len(given) > 1:
            raise CallerError(
                "This request carries two different API keys. Send one: `Authorization: Bearer`, "
                "`api-key` or `x-api-key`."
            )
        return given.pop() if given else None

    def authenticate(self, token: str | bytes | None, now: WallMicros) -> Principal:
        """Return who a key stands for.

        Raises:
            AuthenticationFailed: no key, not one of ours, revoked, expired, or of what is closed.
            PermissionRefused: a key that may only administer.
            Unavailable: nobody can say now.
        """
        if not token:
            raise _missing()
        if isinstance(token, str):
            token = token.encode()
        if not well_formed(token):
            raise _malformed(token)
        keyed = self._hmac.copy()
        keyed.update(token)
        found = keyed.digest()
        principal = self._active.get(found)
        if principal is None:
            principal = self._find(found, token)
        if principal.expires_at and now >= principal.expires_at:
            raise incorrect(token, f"This key has expired, or has a new secret. {HOW}")
        return principal

    def lend(self, token: bytes, expires_at: int, session: bytes) -> str:
        """Return a key for sessions that stands for another one until then, in Unix seconds."""
        return lend(self._hmac.copy(), Loan(self._digest(token), expires_at, session)).decode()

    def borrowed(self, token: bytes, now: WallMicros) -> tuple[Principal, bytes]:
        """Return who a lent key stands for, and the settings that its sessions begin with.

        Raises:
            AuthenticationFailed: it is not one, or has expired, or what it stands for makes no calls.
        """
        loan = read_loan(self._hmac.copy(), token)
        if loan is None or now >= loan.expires_at * _US:
            raise incorrect(
                token,
                "This client secret has expired, or is not one of this gateway. Ask for another one: POST "
                "/v1/realtime/client_secrets.",
            )
        principal = self._active.get(loan.digest) or self._find(loan.digest, token)
        if principal.expires_at and now >= principal.expires_at:
            raise incorrect(token, f"The key that it was lent by has expired. {HOW}")
        return principal, loan.session

    def _digest(self, token: bytes) -> bytes:
        keyed = self._hmac.copy()
        keyed.update(token)
        return keyed.digest()

    def _find(self, found: bytes, token: bytes) -> Principal:
        trust = self._trust()
        row = None if trust is Trust.NONE else self._directory.get(found)
        if row is None and trust is not Trust.FULL:
            raise Unavailable(
                "The gateway cannot check this key now: its database does not answer. Try again in a moment."
            )
        if row is None:
            raise incorrect(token, f"One that was just made is known within a second. {HOW}")
        refusal = halted(row)
        if refusal is not None and refusal.code == "invalid_api_key":
            raise incorrect(token, refusal.message)
        if refusal is not None:
            try:
                raise refusal
            finally:
                del refusal  # a name for it were a cycle, which would hold the request
        ceiling = ceiling_now(row)
        if ceiling is None:
            raise incorrect(token, f"What the key may do that made it leaves it nothing. {HOW}")
        if len(self._active) >= _KEPT:
            self._active.clear()
        principal = self._active[found] = principal_of(row, ceiling, playing=self._playing)
        return principal


def _bearer(authorization: bytes) -> bytes | None:
    scheme, _, token = authorization.strip().partition(b" ")
    return token.strip() or None if scheme.lower() == b"bearer" else None


# The sentences up to the advice are OpenAI's own, which programs match; the advice is ours.
def _missing() -> AuthenticationFailed:
    return AuthenticationFailed(
        "You didn't provide an API key. You need to provide your API key in an Authorization header using "
        f"Bearer auth (i.e. Authorization: Bearer YOUR_KEY). {HOW}"
    )


def incorrect(token: bytes, advice: str) -> AuthenticationFailed:
    """Return the refusal of a key, which it shows masked."""
    return AuthenticationFailed(
        f"Incorrect API key provided: {mask(token)}. {advice}", code="invalid_api_key"
    )


def _malformed(token: bytes) -> AuthenticationFailed:
    if token.startswith(OWN.encode()):
        return incorrect(token, f"It is mistyped or cut off: its checksum does not fit. {HOW}")
    if token.startswith((b"sk-", b"gsk_", b"xai-", b"AIza")):
        return incorrect(
            token,
            "It looks like a provider's key. Clients of this gateway send one of its own, which begin with "
            f"{OWN}; the provider's key belongs in the server's environment. {HOW}",
        )
    return incorrect(token, f"Keys of this gateway begin with {OWN}. {HOW}")
