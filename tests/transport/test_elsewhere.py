"""What providers keep at other addresses: where we go, and where we do not."""

from __future__ import annotations

import msgspec
import pytest
from tests.providers.passed import target_of

from headgate.errors import UpstreamInterrupted
from headgate.transport.elsewhere import answers_at, at_origin, check_pattern, place_of
from headgate.values import Target


def test_an_address_is_taken_as_it_is():
    signed = "https://storage.googleapis.com/b/a%2Fb.avro?X-Goog-Signature=a%2Bb&X=1"
    assert place_of(signed) == (
        "https://storage.googleapis.com",
        "/b/a%2Fb.avro?X-Goog-Signature=a%2Bb&X=1",
    )
    assert place_of("https://h:8443") == ("https://h:8443", "/")
    assert place_of("https://H?a=1") == ("https://h", "/?a=1")


def test_what_is_not_https_must_be_the_providers_own():
    assert place_of("http://127.0.0.1:9/x", "http://127.0.0.1:9/v2") == ("http://127.0.0.1:9", "/x")
    for url in (
        "http://127.0.0.1:8/x",
        "http://h/x",
        "//h/x",
        "/x",
        "",
        "ftp://h/x",
        "https:///x",
        "http://[x",
    ):
        with pytest.raises(UpstreamInterrupted, match="no https address"):
            place_of(url, "http://127.0.0.1:9/v2")


@pytest.mark.parametrize(
    "url", ["https://h/a b", "https://h/a\r\nx: y", "https://h/é", "https://h/" + "a" * 9_000]
)
def test_what_would_change_the_request_is_no_address(url):
    with pytest.raises(UpstreamInterrupted, match="no https address"):
        place_of(url)


def test_no_credential_goes_there():
    there = at_origin(target_of(), "https://h")
    assert (there.headers, there.base_path, there.host.base_url, there.host.api_key) == (
        (),
        "",
        "https://h",
        "",
    )


KEPT_AT = ("storage.example", "*.store.example", "h:8443")


def keeper(*hosts: str, base_url: str = "http://127.0.0.1:9/v1") -> Target:
    target = target_of()
    host = msgspec.structs.replace(target.host, base_url=base_url, api_key="k", batch_hosts=hosts)
    return msgspec.structs.replace(target, host=host)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://storage.example/b/a?X=1", "https://storage.example"),
        ("https://STORAGE.example:443/b/a?X=1", "https://storage.example"),
        ("https://a.b.store.example/b/a?X=1", "https://a.b.store.example"),
        ("https://h:8443/b/a?X=1", "https://h:8443"),
        ("http://127.0.0.1:9/b/a?X=1", "http://127.0.0.1:9"),
    ],
)
def test_answers_are_had_where_they_are_known_to_lie_without_a_credential(url, origin):
    there, path = answers_at(url, keeper(*KEPT_AT))
    assert (there.host.base_url, path) == (origin, "/b/a?X=1")
    assert (there.headers, there.host.api_key) == ((), "")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://169.254.169.254/latest/meta-data", "lie at 169.254.169.254, which batch_hosts of"),
        ("https://localhost/x", "lie at localhost"), ("https://[::1]/x", r"lie at \[::1\]"),
        ("https://storage.example.evil/x", "lie at storage.example.evil"),
        ("https://evilstorage.example/x", "lie at evilstorage.example"),
        ("https://evilstore.example/x", "lie at evilstore.example"), ("https://store.example/x", "store.example"),
        ("https://storage.example:8443/x", "lie at storage.example:8443"), ("https://h/x", "lie at h,"),
        ("https://127.0.0.1:9/x", "lie at 127.0.0.1:9"), ("http://storage.example/x", "no https"),
        ("https://storage.example@evil/x", "no https"), ("https://storage.example\\@evil/x", "no https"),
        ("https://evil#storage.example/x", "no https"), ("https://storage.example%2eevil/x", "no https"),
        ("file:///etc/passwd", "no https"), ("https://2852039166/x", "no https"), ("", "no https"),
    ],
)  # fmt: skip
def test_nothing_is_asked_for_anywhere_else(url, said):
    with pytest.raises(UpstreamInterrupted, match=said):
        answers_at(url, keeper(*KEPT_AT))


def test_what_is_signed_is_not_in_the_error():
    with pytest.raises(UpstreamInterrupted) as raised:
        answers_at("https://evil.example/bucket?Signature=secret", keeper())
    assert "secret" not in raised.value.message
    assert "bucket" not in raised.value.message


@pytest.mark.parametrize("pattern", ["h", "h.example", "*.h.example", "h:8443", "*.a.b.c", "127.0.0.1:9"])
def test_patterns_of_hosts(pattern):
    check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern", ["", "*", "*.", "*.com", "https://h", "h/x", "a.*.b", "H.example", "h:x", "."]
)
def test_what_is_no_pattern(pattern):
    with pytest.raises(ValueError, match="is not host"):
        check_pattern(pattern)
