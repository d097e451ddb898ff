"""What hosts are asked with that expires or signs. Whoever renews it writes it here."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

_Pairs: TypeAlias = tuple[tuple[str, str], ...]
_BEARER_KEPT = 256


class TokenSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where the tokens of a host come from: a command, or an account that signs or has a secret for them."""

    command: tuple[str, ...] = ()  # prints a token, or JSON with `access_token` and `expires_in`
    account: str = ""  # the name of the service account, or the id of the client
    secret: str = ""  # of the client; empty: the account signs
    private_key: str = ""  # of it, in PEM
    key_id: str = ""
    url: str = ""  # is asked for a token
    audience: str = ""  # whom the account's assertion is for; empty: the URL
    scope: str = ""


class Bearer:
    """The token that a host is asked with. Whoever renews it writes it here, off the path of calls."""

    __slots__ = ("_made", "token", "trouble")

    def __init__(self) -> None:
        self.token = ""  # empty: there is none yet, or none any more
        self.trouble = ""  # why there is none
        self._made: dict[int, tuple[_Pairs, _Pairs]] = {}

    def renew(self, token: str, trouble: str = "") -> None:
        """Take another token; an empty one when the last has expired."""
        self.token, self.trouble = token, trouble
        self._made.clear()

    def headers(self, constant: _Pairs) -> _Pairs:
        """Return the constant headers of a target with the token: the same object until it is renewed."""
        made = self._made.get(id(constant))
        if made is None or made[0] is not constant:
            if len(self._made) >= _BEARER_KEPT:
                self._made.clear()
            made = (constant, (*constant, ("authorization", f"Bearer {self.token}")))
            self._made[id(constant)] = made
        return made[1]


class AccessKeys(msgspec.Struct, frozen=True):
    """What requests are signed with."""

    id: str
    secret: str
    session: str = ""  # of keys that expire


class Signing:
    """The keys that requests to a host are signed with. Whoever renews them writes them here.

    Args:
        keys: where they are given and stay what they are.
        profile: of the cloud's own files, where they are found by its own rules; empty: the usual one.
    """

    __slots__ = ("given", "keys", "profile", "trouble")

    def __init__(self, keys: AccessKeys | None = None, profile: str = "") -> None:
        self.given = keys is not None
        self.keys = keys
        self.profile = profile
        self.trouble = ""  # why there are none

    def renew(self, keys: AccessKeys | None, trouble: str = "") -> None:
        """Take other keys; None when there are none."""
        self.keys, self.trouble = keys, trouble
