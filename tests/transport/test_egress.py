from __future__ import annotations

import pytest
from tests.transport.asking import ask, http, said, target
from tests.upstream import ScriptedUpstream, chat_json

from headgate.errors import UpstreamInterrupted
from headgate.transport.egress import Origin, parse_origin, refusal

REFUSED = {
    "169.254.169.254": "link-local",
    "169.254.0.1": "link-local",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "febf::1": "link-local",
    "100.100.100.200": "a cloud metadata service",
    "192.0.0.192": "a cloud metadata service",
    "168.63.129.16": "a cloud metadata service",
    "fd00:ec2::254": "a cloud metadata service",
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "::": "unspecified",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "ff02::1": "multicast",
    "ff0e::1": "multicast",
    "255.255.255.255": "broadcast",
    # the same, wrapped
    "::ffff:169.254.169.254": "link-local",
    "::ffff:0.0.0.0": "unspecified",
    "::ffff:100.100.100.200": "a cloud metadata service",
    "::ffff:224.0.0.1": "multicast",
    "::169.254.169.254": "link-local",
    "::ffff:0:169.254.169.254": "link-local",
    "64:ff9b::a9fe:a9fe": "link-local",
    "64:ff9b:1::a9fe:a9fe": "link-local",
    "64:ff9b::6464:64c8": "a cloud metadata service",
    "2002:a9fe:a9fe::": "link-local",
    "2002:a9fe:a9fe::1": "link-local",
    "2002:e000:1::": "multicast",
    "2001:0:102:304::5601:5601": "link-local",  # Teredo: ~0x56015601 = 169.254.169.254
    "2001:0:a9fe:a9fe::fefe:fefe": "link-local",  # Teredo server
}
ALLOWED = (
    "1.1.1.1",
    "127.0.0.1",
    "10.0.0.5",
    "172.16.0.1",
    "192.168.1.10",
    "100.64.0.1",
    "169.253.255.255",
    "::1",
    "fd12:3456::1",
    "2606:4700:4700::1111",
    "::ffff:10.0.0.1",
    "64:ff9b::101:101",
    "2002:101:101::",
)


@pytest.mark.parametrize("address", REFUSED)
def test_these_addresses_are_never_connected_to(address: str) -> None:
    assert refusal(address) == REFUSED[address]


@pytest.mark.parametrize("address", ALLOWED)
def test_public_private_and_loopback_addresses_pass(address: str) -> None:
    assert refusal(address) is None


@pytest.mark.parametrize(
    ("url", "origin", "authority"),
    [
        ("https://api.openai.com/v1", Origin("https", "api.openai.com", 443), "api.openai.com"),
        ("http://LocalHost:11434/v1/", Origin("http", "localhost", 11434), "localhost:11434"),
        ("https://api.openai.com.:8443", Origin("https", "api.openai.com", 8443), "api.openai.com:8443"),
        ("http://[::1]:8000/v1", Origin("http", "::1", 8000), "[::1]:8000"),
        ("https://[2001:DB8::1]/", Origin("https", "2001:db8::1", 443), "[2001:db8::1]"),
        ("http://10.0.0.5", Origin("http", "10.0.0.5", 80), "10.0.0.5"),
        ("http://my_ollama:11434", Origin("http", "my_ollama", 11434), "my_ollama:11434"),
        ("https://xn--fiqs8s.example/v1", Origin("https", "xn--fiqs8s.example", 443), "xn--fiqs8s.example"),
    ],
)
def test_a_base_url_names_an_origin(url: str, origin: Origin, authority: str) -> None:
    assert parse_origin(url) == origin
    assert parse_origin(url).authority == authority


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com/v1",
        "//api.openai.com",
        "ftp://host",
        "file:///etc/passwd",
        "gopher://host",
        "unix:///run/x.sock",
        "HTTPS//host",
        "https://",
        "https:///v1",
        "https://user:pw@host/v1",
        "https://user@host",
        "https://host@169.254.169.254/",
        "http://1.1.1.1\\@169.254.169.254/",
        "http://1.1.1.1/\\..",
        "https://host/v1?api-version=1",
        "https://host/#x",
        "https://host:0/",
        "https://host:65536/",
        "https://host:-1/",
        "https://host:80:80/",
        "https://ho st/",
        "https://host/a b",
        "https://host\n.example/",
        "https://host\r\nX: y/",
        "https://host/\x00",
        "https://h\u00f6st.example/",
        "https://\u2460\u2461\u2466.0.0.1/",
        "http://169\u3002254\u3002169\u3002254/",
        "https://a..b/",
        "https://./",
        "http://2852039166/",
        "http://0xA9FEA9FE/",
        "http://0251.0376.0251.0376/",
        "http://169.254.43518/",
        "http://127.1/",
        "http://0/",
        "http://0x7f.1/",
        "http://1.2.3.4.5/",
        "http://1.2.3.256/",
        "http://[::1/",
        "http://[::1%eth0]/",
        "http://[::g]/",
        "http://[1.2.3.4]/",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_origin(url)


async def resolved(transport_to: str, *addresses: str) -> UpstreamInterrupted:
    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    async with http(resolve=resolve) as transport:
        with pytest.raises(UpstreamInterrupted) as caught:
            await transport.acquire(target(transport_to))
        return caught.value


@pytest.mark.anyio
@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254", "0.0.0.0"])
async def test_a_name_that_leads_there_is_refused(address: str) -> None:
    error = await resolved("http://rebind.example:9/v1", address)
    assert "where it is never connected to" in said(error, "rebind.example:9")


@pytest.mark.anyio
async def test_one_bad_address_among_good_ones_refuses_the_name_and_nothing_is_dialled() -> None:
    async with ScriptedUpstream() as upstream:
        error = await resolved(f"http://mixed.example:{upstream.port}", "127.0.0.1", "169.254.169.254")
        assert "link-local" in error.message
        assert not upstream.connections


@pytest.mark.anyio
async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])

    async def rebinding(host: str, port: int) -> list[str]:
        return next(answers)

    async with ScriptedUpstream(chat_json()) as upstream, http(resolve=rebinding) as transport:
        head, _ = await ask(transport, target(f"http://rebind.example:{upstream.port}/v1"))
        assert head.status == 200
        assert upstream.requests[0].get("host") == f"rebind.example:{upstream.port}"
        await ask(transport, target(f"http://rebind.example:{upstream.port}/v1"))
        assert len(upstream.connections) == 1


@pytest.mark.anyio
async def test_a_literal_address_is_checked_without_a_resolver() -> None:
    assert "link-local" in said(await resolved("http://169.254.169.254/latest"), "169.254.169.254:80")
    assert "link-local" in said(await resolved("http://[fe80::1]/"), "[fe80::1]:80")


@pytest.mark.anyio
async def test_a_wrong_base_url_is_said_to_be_wrong() -> None:
    error = await resolved("http://user:pw@host/v1")
    assert "base_url of provider 'scripted' is wrong" in error.message
    assert "pw" not in error.message
