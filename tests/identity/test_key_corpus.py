"""S-11: ten thousand keys that are none, and ten thousand that differ from another at their end alone."""

import random
import string
from collections.abc import Iterator

import pytest

from headgate.errors import CallerError
from headgate.identity import keys
from headgate.identity.keys import PREFIXES, Keyring, digest, mint, well_formed
from headgate.records import KeyRow

PEPPER = bytes(range(32))
COUNT = 10_000
_LETTERS = string.digits + string.ascii_letters


class Counting(dict[bytes, KeyRow]):
    """A directory that counts how often it is asked."""

    asked = 0

    def get(self, found: bytes, /) -> KeyRow | None:  # type: ignore[override]
        self.asked += 1
        return super().get(found)


def malformed(real: str) -> Iterator[bytes]:
    """Yield keys that a real one is near to, and others: never one that is written like ours."""
    draw = random.Random(11)
    raw, found = real.encode(), digest(PEPPER, real)
    prefixes = (b"sk-hg-root-", b"sk-hg-LIVE-", b"sk-", b"", b"SK-HG-LIVE-")
    hostile = ("' OR 1=1 --", "\x00", "\r\nX: y", "%00", "${x}", "$(x)")
    scripts = ("é", "ａ", "０", "\u202e", "😀")
    while True:
        at, other = sorted((draw.randrange(len(raw)), draw.randrange(len(raw))))
        letters = "".join(draw.choices(_LETTERS, k=6)).encode()
        yield from (
            raw[:at] + letters[:1] + raw[at + 1 :],
            draw.choice([raw[:at], raw[at:], raw + raw, raw + raw[:at]]),  # cut off, or doubled
            raw[:at] + raw[other:] + raw[at:other],  # parts changed places
            raw[:-6] + letters,  # an invented check sum
            draw.choice(prefixes) + raw[11:],
            draw.randbytes(draw.choice([1, 59, 60, 61, 4096])),
            raw[:at] + draw.choice(hostile).encode(),
            (real[:at] + draw.choice(scripts) + real[at + 1 :]).encode(),
            draw.choice([found, found.hex().encode(), b"sk-hg-live-" + found.hex()[:49].encode()]),
            raw[:at] + draw.choice([b" ", b"\t", b"\n", b"\x0b"]) + raw[at:],
        )


def test_ten_thousand_malformed_keys_are_refused_before_anything_is_asked() -> None:
    real = mint("live")
    directory = Counting({digest(PEPPER, real): KeyRow(key=1, project=2, account=3)})
    keyring = Keyring(PEPPER, directory)
    tried = 0
    for junk in malformed(real):
        if junk.strip() == real.encode() or not junk:
            continue
        with pytest.raises(CallerError) as caught:
            keyring.authenticate(junk, 1)
        assert caught.value.http_status == 401
        assert real[12:-6] not in caught.value.message
        tried += 1
        if tried == COUNT:
            break
    assert directory.asked == 0
    assert keyring.authenticate(real, 1).key == 1


def sharing(prefix: str, count: int) -> list[str]:
    """Make well-formed keys that begin with the same characters."""
    draw = random.Random(len(prefix))
    bodies = set()
    while len(bodies) < count:
        bodies.add(prefix + "".join(draw.choices(_LETTERS, k=54 - len(prefix))))
    return [body + keys._checksum(body.encode()) for body in sorted(bodies)]


def test_ten_thousand_keys_with_the_same_beginnings_are_never_mixed_up() -> None:
    known: dict[bytes, KeyRow] = {}
    tokens: list[str] = []
    for length in (20, 40, 50, 51):
        shared = PREFIXES["live"] + "x" * (length - 11)
        tokens += sharing(shared, COUNT // 4)
    assert len(set(tokens)) == COUNT
    assert all(map(well_formed, tokens))
    stored = tokens[::2]
    for number, token in enumerate(stored):
        known[digest(PEPPER, token)] = KeyRow(key=number, project=number, account=number)
    keyring = Keyring(PEPPER, known)
    for _ in range(2):  # from the directory, then from what is remembered of it
        for number, token in enumerate(stored):
            assert keyring.authenticate(token, 1).key == number
        for token in tokens[1::2]:
            with pytest.raises(CallerError):
                keyring.authenticate(token, 1)
