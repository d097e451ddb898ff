"""What a known head spares must not change what is served: the same bytes, with and without it."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given, strategies as st

from headgate.errors import AuthenticationFailed, GatewayError, LoopRefused
from headgate.failpoints import NoFailpoints
from headgate.http.callers import identify
from headgate.http.dataplane import CallRoute
from headgate.http.edge import EdgeLimits
from headgate.http.incoming import Incoming, RequestHead
from headgate.http.intake import Intake
from headgate.identity.keys import Keyring, mint_key
from headgate.ports import CallIds, SystemClock
from headgate.records import KeyRow
from headgate.values import Ceiling, Principal
from headgate.wire.known import KnownHeads

PEPPER = b"p" * 32


class Table:
    """One route for everything."""

    max_body_bytes = 300


class Forgetful(KnownHeads[RequestHead]):
    """Knows no head, so that everything meets the parser."""

    def learn(self, data: bytes, meaning: RequestHead) -> None:
        """Forget it."""


class Shared:
    """What an intake asks of its edge."""

    def __init__(self) -> None:
        self.limits = EdgeLimits()
        self.known = KnownHeads[RequestHead]()
        self.monotonic = lambda: 7
        self.new_id = lambda: b"i" * 16

    def route(self, method: bytes, path: str) -> Table:
        return Table()


def head(length: object, *lines: str, name: str = "Content-Length", target: str = "/a") -> bytes:
    rows = [f"POST {target} HTTP/1.1", "Host: x", *lines, f"{name}: {length}", "Accept: */*"]
    return "\r\n".join([*rows, "", ""]).encode()


def read(edge: Shared, pieces: list[bytes]) -> list[object]:
    """Return what a new connection makes of some reads: requests as their parts, errors by their text."""
    intake = Intake(edge)  # type: ignore[arg-type]
    out: list[object] = []
    for piece in pieces:
        found = intake.recognise(piece)  # as a connection does first
        if found is not None:
            out += [_shown(found)] if found is not True else []
            continue
        rest = piece
        while rest and not intake.ended:
            rest = intake.feed(rest)
            out += [_shown(item) for item in intake.ready]
            intake.ready.clear()
    return [*out, intake.partial is not None]


def _shown(item: Incoming | GatewayError) -> object:
    if isinstance(item, GatewayError):
        return type(item), str(item)
    return item.method, item.path, item.headers, item.body, item.head.keep_alive


def warm(*heads: bytes) -> Shared:
    edge = Shared()
    for each in heads:
        body = b"x" * int(each.split(b"ength: ")[1].split(b"\r")[0])
        assert len(read(edge, [each + body])) == 2
    return edge


def strict() -> Shared:
    edge = Shared()
    edge.known = Forgetful()
    return edge


LEARNT = (
    head(5),
    head(3, "Authorization: Bearer k"),
    head(0, name="content-length"),
    head(4, "Connection: close"),
)
PIECES = st.one_of(
    st.sampled_from([*LEARNT, head(12), head(299), head(301), head("07"), head(5, "Expect: 100-continue")]),
    st.sampled_from([head("5, 5"), head(5, "Content-Length: 5"), head(5, "Transfer-Encoding: chunked")]),
    st.sampled_from([b"hello", b"abc", b"x" * 12, b"\r\n", b"\r", b"P", b"", b"x" * 299, b"0\r\n\r\n"]),
    st.sampled_from(
        [head(5).replace(b"\r\n", b"\n"), head(5)[:20], head(5)[20:], head(5) + b"hello" + head(5)]
    ),
    st.sampled_from([head(5) + b"hello", head(12) + b"y" * 12, head(3) + b"abcd", head(0), head(5) + b"he"]),
)


@given(st.lists(st.lists(PIECES, min_size=1, max_size=3).map(b"".join), min_size=1, max_size=5))
def test_the_same_reads_mean_the_same_with_and_without_known_heads(reads: list[bytes]) -> None:
    assert read(warm(*LEARNT), reads) == read(strict(), reads)


@pytest.mark.parametrize("inner", [head(5) + b"hello", head(5), head(0)])
def test_a_body_that_is_a_request_in_itself_is_a_body(inner: bytes) -> None:
    reads = [head(len(inner) + 3), inner, b"end", head(5) + b"hello"]
    assert read(warm(*LEARNT), reads) == read(strict(), reads)
    assert len(read(strict(), reads)) == 3


@pytest.mark.parametrize("rest", [b"P", b"POST /b HTTP/1.1\r\nHost: x", b"\r", b"\n", head(5) + b"hel"])
def test_what_follows_a_request_in_its_read_is_not_forgotten(rest: bytes) -> None:
    reads = [head(5) + b"hello" + rest, head(5) + b"hello", head(5) + b"hello"]
    assert read(warm(head(5)), reads) == read(strict(), reads)


def test_a_known_head_needs_no_parser_and_keeps_the_length_of_its_own_request() -> None:
    edge = warm(head(5))
    intake = Intake(edge)  # type: ignore[arg-type]
    assert intake.feed(head(12) + b"y" * 12) == b""
    assert intake.feed(head(3)) == b""
    assert intake.partial is not None
    assert intake.feed(b"abc") == b""
    assert intake._parser is None
    first, second = intake.ready
    assert isinstance(first, Incoming)
    assert isinstance(second, Incoming)
    assert (first.body, second.body) == (b"y" * 12, b"abc")
    assert dict(first.headers)[b"content-length"] == b"12"
    assert dict(second.headers)[b"content-length"] == b"3"
    assert first.head is second.head


@pytest.mark.parametrize("length", [1, 9, 10, 99, 100, 299])
def test_a_known_head_is_found_with_any_number_of_digits_and_with_signs_that_stand_for_others(
    length: int,
) -> None:
    edge = warm(head(5, target="/a?%d%25"))
    whole = head(length, target="/a?%d%25") + b"y" * length
    for data in (whole, whole, whole[:-1], whole + b"y", whole[: len(whole) - length], whole):
        found = edge.known.find(data)
        assert found is not None
        assert found[1:] == (len(whole) - length, length)
        assert found[0].target == b"/a?%d%25"


@pytest.mark.parametrize("length", ["-1", "05", " 5", "1_0", "+7"])
def test_a_length_that_is_none_is_not_found(length: str) -> None:
    edge = warm(head(5))
    assert edge.known.find(head(5) + b"hello") is not None
    for count in range(12):
        assert edge.known.find(head(length) + b"y" * count) is None
    assert edge.known.find(head(5)[:-6]) is None


@pytest.mark.parametrize(
    "odd",
    [
        head(4, "Connection: close"),
        head(4, "Expect: 100-continue"),
        head(4, "Connection: upgrade", "Upgrade: h2c"),
        head(4).replace(b"/1.1", b"/1.0"),
    ],
)
def test_heads_that_change_what_follows_are_not_kept(odd: bytes) -> None:
    edge = Shared()
    read(edge, [odd + b"abcd"])
    assert edge.known.find(odd + b"abcd") is None


def test_a_listener_keeps_a_bounded_number_of_heads() -> None:
    edge = Shared()
    for number in range(1100):
        read(edge, [head(1, target=f"/{number}") + b"x"])
    assert len(edge.known._heads) <= 512


def test_who_calls_is_found_again_when_the_keys_change() -> None:
    key = mint_key(PEPPER)
    row = KeyRow(key=1, project=2, account=3)
    clock = SimpleNamespace(wall=lambda: 5)
    service = SimpleNamespace(keyring=Keyring(PEPPER, {key.digest: row}), clock=clock)
    rows = [(b"authorization", b"Bearer " + key.text.encode()), (b"x-headgate-sim", b"fault=none")]
    incoming = Incoming(RequestHead(b"POST", b"/a", "1.1", rows), 0, 0, lambda: b"")
    caller = identify(service, incoming)  # type: ignore[arg-type]
    assert caller.principal == Principal(1, 2, 3)
    assert caller.sim == "fault=none"
    assert identify(service, incoming) is caller  # type: ignore[arg-type]
    service.keyring = Keyring(PEPPER, {key.digest: msgspec.structs.replace(row, revoked=True)})
    with pytest.raises(AuthenticationFailed, match="revoked"):
        identify(service, incoming)  # type: ignore[arg-type]


def test_a_key_that_expires_is_looked_at_each_time() -> None:
    key = mint_key(PEPPER)
    row = KeyRow(key=1, project=2, account=3, ceiling=Ceiling(expires_at=10))
    clock = SimpleNamespace(wall=lambda: 9)
    service = SimpleNamespace(keyring=Keyring(PEPPER, {key.digest: row}), clock=clock)
    rows = [(b"authorization", b"Bearer " + key.text.encode())]
    incoming = Incoming(RequestHead(b"POST", b"/a", "1.1", rows), 0, 0, lambda: b"")
    assert identify(service, incoming).principal.key == 1  # type: ignore[arg-type]
    clock.wall = lambda: 10
    with pytest.raises(AuthenticationFailed, match="expired"):
        identify(service, incoming)  # type: ignore[arg-type]


def test_what_is_looked_at_in_each_call_is_so_in_those_of_a_known_head() -> None:
    bound, free = mint_key(PEPPER), mint_key(PEPPER)
    row = KeyRow(key=1, project=2, account=3)
    bound_row = msgspec.structs.replace(row, ceiling=Ceiling(networks=("10.0.0.0/8",)))
    came: list[object] = []
    service = SimpleNamespace(
        keyring=Keyring(PEPPER, {bound.digest: bound_row, free.digest: row}),
        clock=SystemClock(),
        ids=CallIds(SystemClock()),
        shedder=SimpleNamespace(active=False),
        failpoints=NoFailpoints(),
        draining=False,
        instance="here",
        trusted_proxies=(),
        routes=None,
        refused=lambda *_: None,
        pipeline=SimpleNamespace(
            serve=lambda *_: "served", refuse=lambda _call, error, _sink: came.append(type(error))
        ),
        start_call=lambda run, _: came.append(run),
    )
    route = CallRoute(service, "chat", 1000)  # type: ignore[arg-type]
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
    known = RequestHead(b"POST", b"/a", "1.1", [(b"api-key", bound.text.encode())])
    hop = RequestHead(b"POST", b"/a", "1.1", [(b"api-key", free.text.encode()), (b"x-headgate-hop", b"here")])
    for asked, peer in (known, "10.0.0.1"), (known, "11.0.0.1"), (known, "10.0.0.2"), (hop, "10.0.0.1"):
        for _ in range(2):
            route.handle(Incoming(asked, 0, 0, lambda: b"", (peer, 1), body), None)  # type: ignore[arg-type]
    assert came == [
        *("served", "served", AuthenticationFailed, AuthenticationFailed, "served", "served"),
        *(LoopRefused, LoopRefused),
    ]
