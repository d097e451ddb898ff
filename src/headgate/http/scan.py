"""What is looked at before any JSON is parsed: UTF-8, nesting depth and the number of nodes.

A parser must never meet a bomb, so these run on plain bytes at C speed and walk in Python only when a
body has more brackets than it may be deep.
"""

from __future__ import annotations

from headgate.errors import CallerError

MAX_DEPTH = 64
_TOO_DEEP = MAX_DEPTH + 1
_SHORT = 32 * 1024  # bytes: a copy is made faster than one bracket after the other is looked for
MAX_NODES = 310_000  # OpenAI takes 300,000 token ids in one request for embeddings
_BRACKETS = bytes(byte for byte in range(256) if byte not in b'"[]{},')


def scan(body: bytes) -> None:
    """Refuse a body that is not UTF-8, is nested deeper than 64 or holds over 310,000 nodes.

    Raises:
        CallerError: 400, naming the limit.
    """
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as fault:
            raise CallerError(
                "We could not parse the JSON body of your request: it is not valid UTF-8 "
                f"(byte {fault.start}). Send the body as UTF-8."
            ) from fault
    size = len(body)
    if size <= _SHORT:  # `replace` looks for a byte much faster than `count` does
        without = body.replace(b"[", b"", _TOO_DEEP).replace(b"{", b"", _TOO_DEEP)
        if size - len(without) <= MAX_DEPTH:
            return
    # A value takes two bytes at least, so only a long body can hold too many of them.
    few = size <= 2 * MAX_NODES or body.count(b",") + MAX_DEPTH <= MAX_NODES
    if few and _at_most(body, b"[", MAX_DEPTH // 2) and _at_most(body, b"{", MAX_DEPTH // 2):
        return
    _walk(_structure(body))


def _at_most(body: bytes, mark: bytes, limit: int) -> bool:
    """Say whether a byte occurs at most so often; looks no further than it must (`find` is memchr)."""
    at = body.find(mark)
    while at >= 0 and limit > 0:
        limit -= 1
        at = body.find(mark, at + 1)
    return at < 0


def _structure(body: bytes) -> bytes:
    """Return the brackets and commas outside strings."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    return b"".join(plain.translate(None, _BRACKETS).split(b'"')[::2])


def _walk(structure: bytes) -> None:
    if structure.count(b",") + structure.count(b"[") + structure.count(b"{") > MAX_NODES:
        raise CallerError(
            f"The JSON body of your request holds more than {MAX_NODES} values. Send it in several requests."
        )
    depth = 0
    for byte in structure:
        if byte in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise CallerError(f"The JSON body of your request is nested deeper than {MAX_DEPTH} levels.")
        elif byte in b"]}":
            depth -= 1
