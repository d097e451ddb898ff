"""S-22: where a request comes from, in 80 forms and more."""

import pytest

from headgate.identity.networks import client_address, inside, parse_address
from headgate.identity.rights import parse_network

PROXIES = ("10.0.0.0/8", "2001:db8:ffff::/48")
ALLOWED = ("203.0.113.0/24", "2001:db8:1::/48")
PROXY = "10.0.0.1"
CLIENT = "203.0.113.7"
EVIL = "198.51.100.66"

# peer, headers, is the request let in?  Headers: xff = X-Forwarded-For, fwd = Forwarded.
FORMS: list[tuple[str, list[tuple[str, str]], bool]] = [
    # no proxy: the peer alone counts
    (CLIENT, [], True),
    (EVIL, [], False),
    (EVIL, [("xff", CLIENT)], False),
    (EVIL, [("fwd", f"for={CLIENT}")], False),
    (CLIENT, [("xff", EVIL)], True),
    (CLIENT, [("xff", "junk")], True),
    (f"::ffff:{CLIENT}", [], True),
    (f"::FFFF:{CLIENT}", [], True),
    ("::ffff:cb00:7107", [], True),  # the same in hex
    (f"::ffff:{EVIL}", [], False),
    ("2001:db8:1::5", [], True),
    ("2001:0DB8:0001:0000:0000:0000:0000:0005", [], True),
    ("2001:db8:2::5", [], False),
    ("2001:db8:1::5%eth0", [], False),
    ("fe80::1%1", [], False),
    ("", [], False),
    ("unix", [], False),
    (f"::{CLIENT}", [], False),  # IPv4-compatible: another address
    (f"64:ff9b::{CLIENT}", [], False),  # NAT64: another address
    # one proxy
    (PROXY, [("xff", CLIENT)], True),
    (PROXY, [("xff", EVIL)], False),
    (PROXY, [], False),  # the proxy itself is not on the list
    (PROXY, [("xff", f" {CLIENT} ")], True),
    (PROXY, [("xff", f"\t{CLIENT}")], True),
    (PROXY, [("xff", f"{CLIENT}:4711")], True),
    (PROXY, [("xff", "[2001:db8:1::5]:4711")], True),
    (PROXY, [("xff", "[2001:db8:1::5]")], True),
    (PROXY, [("xff", "2001:db8:1::5")], True),
    (PROXY, [("xff", f"::ffff:{CLIENT}")], True),
    (PROXY, [("xff", f"[::ffff:{CLIENT}]:80")], True),
    (f"::ffff:{PROXY}", [("xff", CLIENT)], True),
    ("2001:db8:ffff::1", [("xff", CLIENT)], True),
    # what stands left was written by anybody
    (PROXY, [("xff", f"{CLIENT}, {EVIL}")], False),
    (PROXY, [("xff", f"{EVIL}, {CLIENT}")], True),
    (PROXY, [("xff", f"junk, {CLIENT}")], True),
    (PROXY, [("xff", f"{CLIENT}, junk")], False),
    (PROXY, [("xff", f"{CLIENT},")], False),
    (PROXY, [("xff", f"{CLIENT}, ")], False),
    (PROXY, [("xff", f",{CLIENT}")], True),
    (PROXY, [("xff", "")], False),
    (PROXY, [("xff", ",")], False),
    (PROXY, [("xff", f"{CLIENT}"), ("xff", EVIL)], False),  # two lines are one list
    (PROXY, [("xff", EVIL), ("xff", CLIENT)], True),
    # several proxies
    (PROXY, [("xff", f"{CLIENT}, 10.0.0.9")], True),
    (PROXY, [("xff", f"{EVIL}, 10.0.0.9")], False),
    (PROXY, [("xff", f"{CLIENT}, {EVIL}, 10.0.0.9")], False),
    (PROXY, [("xff", f"{CLIENT}, 10.0.0.9, 2001:db8:ffff::2")], True),
    (PROXY, [("xff", "10.0.0.8, 10.0.0.9")], False),  # from inside: on no list
    (PROXY, [("xff", ", ".join([CLIENT] + ["10.0.0.9"] * 40))], False),  # more hops than anybody has
    # forms that other readers take for an address
    (PROXY, [("xff", "0313.0000.0161.0007")], False),  # octal
    (PROXY, [("xff", "203.0.113.07")], False),
    (PROXY, [("xff", "0xcb.0x0.0x71.0x7")], False),
    (PROXY, [("xff", "0xcb007107")], False),
    (PROXY, [("xff", "3405803783")], False),
    (PROXY, [("xff", "203.0.28935")], False),
    (PROXY, [("xff", "203.0.113")], False),
    (PROXY, [("xff", f"{CLIENT}.")], False),
    (PROXY, [("xff", f"{CLIENT}/32")], False),
    (PROXY, [("xff", f"http://{CLIENT}")], False),
    (PROXY, [("xff", f"{CLIENT}:99999")], False),
    (PROXY, [("xff", f"{CLIENT}:")], False),
    (PROXY, [("xff", f"{CLIENT}:80:80")], False),
    (PROXY, [("xff", f"[{CLIENT}]")], False),
    (PROXY, [("xff", "[2001:db8:1::5")], False),
    (PROXY, [("xff", "[2001:db8:1::5]x")], False),
    (PROXY, [("xff", "2001:db8:1::5%eth0")], False),
    (PROXY, [("xff", "[2001:db8:1::5%25eth0]")], False),
    (PROXY, [("xff", "2001:db8:1:::5")], False),
    (PROXY, [("xff", "２０３.0.113.7")], False),  # digits of another script
    (PROXY, [("xff", f"{CLIENT}\x00")], False),
    (PROXY, [("xff", f"{CLIENT} {EVIL}")], False),
    (PROXY, [("xff", "unknown")], False),
    (PROXY, [("xff", "localhost")], False),
    (PROXY, [("xff", "a" * 10_000)], False),
    # RFC 7239
    (PROXY, [("fwd", f"for={CLIENT}")], True),
    (PROXY, [("fwd", f"For={CLIENT};proto=https;by=10.0.0.1")], True),
    (PROXY, [("fwd", f'for="{CLIENT}:4711"')], True),
    (PROXY, [("fwd", 'for="[2001:db8:1::5]:4711"')], True),
    (PROXY, [("fwd", f"for={CLIENT}, for={EVIL}")], False),
    (PROXY, [("fwd", f"for={EVIL}, for={CLIENT}")], True),
    (PROXY, [("fwd", f"for={CLIENT}, for=10.0.0.9")], True),
    (PROXY, [("fwd", "for=unknown")], False),
    (PROXY, [("fwd", "for=_hidden")], False),
    (PROXY, [("fwd", "proto=https")], False),
    (PROXY, [("fwd", f"for={CLIENT};for={EVIL}")], False),
    (PROXY, [("fwd", f'for="{CLIENT}')], False),
    (PROXY, [("fwd", "")], False),
    # both headers: they must say the same
    (PROXY, [("fwd", f"for={CLIENT}"), ("xff", CLIENT)], True),
    (PROXY, [("fwd", f"for={CLIENT}"), ("xff", EVIL)], False),
    (PROXY, [("fwd", f"for={EVIL}"), ("xff", CLIENT)], False),
    # headers that nobody asked for
    (PROXY, [("x-real-ip", CLIENT)], False),
    (PROXY, [("true-client-ip", CLIENT), ("xff", EVIL)], False),
    (PROXY, [("cf-connecting-ip", CLIENT)], False),
]
NAMES = {"xff": b"x-forwarded-for", "fwd": b"forwarded"}


def headers(rows: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(NAMES.get(name, name.encode()), value.encode()) for name, value in rows]


def test_there_are_80_forms_and_more() -> None:
    assert len(FORMS) >= 80


@pytest.mark.parametrize(("peer", "rows", "let_in"), FORMS)
def test_a_form(peer: str, rows: list[tuple[str, str]], let_in: bool) -> None:
    assert inside(client_address(peer, headers(rows), PROXIES), ALLOWED) is let_in


@pytest.mark.parametrize(("peer", "rows", "_"), FORMS)
def test_without_listed_proxies_no_header_is_believed(
    peer: str, rows: list[tuple[str, str]], _: bool
) -> None:
    assert client_address(peer, headers(rows), ()) == client_address(peer, [], ())


@pytest.mark.parametrize(
    "text", ["10.0.0.1/8", "10.0.0.0/33", "fe80::/10%1", "x", "", "10.0.0.0/255.0.0.0.0"]
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_network(text)


def test_a_mapped_network_is_the_ipv4_one() -> None:
    assert str(parse_network("::ffff:10.0.0.0/104")) == "10.0.0.0/8"
    assert str(parse_network("::/0")) == "::/0"
    assert parse_address("::ffff:10.0.0.1") == parse_address("10.0.0.1")
