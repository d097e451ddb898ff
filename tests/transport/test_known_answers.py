"""What a known head spares must not change an answer: the same bytes, with and without it."""

from __future__ import annotations

from hypothesis import given, strategies as st

from headgate.transport.faults import Malformed
from headgate.transport.framing import Answer, Bounds, Proven, recognised
from headgate.wire.known import KnownHeads

BOUNDS = Bounds(body_bytes=300, head_bytes=600)


def head(length: object, *lines: str, status: str = "200 OK", name: str = "Content-Length") -> bytes:
    rows = [f"HTTP/1.1 {status}", "Content-Type: application/json", *lines, f"{name}: {length}"]
    return "\r\n".join([*rows, "", ""]).encode()


def read(known: KnownHeads[Proven] | None, pieces: list[bytes]) -> list[object]:
    """Return what an answer is after each of some reads."""
    whole = recognised(pieces[0], BOUNDS, known) if known is not None else None
    answer = whole or Answer(BOUNDS, known)
    out: list[object] = []
    for piece in pieces:
        try:
            if whole is None or out:
                answer.feed(piece)
        except Malformed as error:
            return [*out, str(error)]
        body = answer.take() if answer.unread else b""
        out.append((answer.complete, answer.reusable, answer.received, answer.keep_alive, body))
        if answer.head is not None:
            out.append(
                (answer.head.status, [row for row in answer.head.headers if row[0] != b"content-length"])
            )
    return out


HEADS = [
    head(5),
    head(5, "Keep-Alive: timeout=5"),
    head(5, "Connection: close"),
    head(5, status="429 Too Many Requests"),
    head(0, name="content-length"),
    head(5, "Content-Encoding: identity"),
]
OTHER = [head(7), head(299), head(301), head("07"), head(5, "Content-Length: 5"), head(5)[:30], head(5)[30:]]
BODIES = [b"hello", b"seven77", b"hel", b"lo", b"", b"\r\n", b"x" * 299, b"HTTP/1.1 200 OK\r\n"]


def warm() -> KnownHeads[Proven]:
    known = KnownHeads[Proven]()
    for each in HEADS:
        read(known, [each + b"hello"[: 0 if b"ength: 0" in each else 5]])
    return known


PIECES = st.lists(st.sampled_from([*HEADS, *OTHER, *BODIES]), min_size=1, max_size=3).map(b"".join)


@given(st.lists(PIECES, min_size=1, max_size=3))
def test_the_same_reads_mean_the_same_with_and_without_known_heads(reads: list[bytes]) -> None:
    assert read(warm(), reads) == read(None, reads)


def test_a_whole_answer_with_a_known_head_needs_no_parser() -> None:
    known = warm()
    answer = recognised(head(7) + b"seven77", BOUNDS, known)
    assert answer is not None
    assert answer.complete
    assert answer.reusable
    assert answer.take() == b"seven77"
    assert answer.head is not None
    assert answer.head.get(b"content-type") == b"application/json"
    answer.feed(b"x")  # what follows it makes the connection unusable
    assert not answer.reusable


def test_only_answers_that_came_whole_and_kept_their_connection_are_known() -> None:
    known = warm()
    assert known.find(HEADS[0]) is not None
    assert known.find(HEADS[2]) is None  # it closes
    assert known.find(HEADS[3]) is None  # an error
    cut = KnownHeads[Proven]()
    read(cut, [head(5), b"hello"])
    read(cut, [head(5) + b"hello\r\n"])
    assert cut.find(head(5)) is None
