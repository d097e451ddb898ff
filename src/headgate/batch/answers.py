"""How much memory the answers of lines take together: from before a line is sent until its output is kept.

How long an answer will be is not known when it is asked for, so it is expected: of embeddings by how many
texts there are and how long vectors may be, and by those of the model that came before; of all others by the
longest that came. Each answer that is shorter lowers that a little, so one that was huge does not slow all
that follow. What has come is counted as it is, so a wrong guess only lets the next lines wait longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.admission.load import Load
from headgate.wire.batchjobs import Finished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headgate.values import Call
    from headgate.wire.batchjobs import Claim, KeptBatch, Returned

MOST: Final = 128 << 20  # bytes of all answers of a worker; one that is alone may have more
_LEAST: Final = 8 << 10  # bytes that are expected of any answer,
_USUAL: Final = 64 << 10  # of one before any of its kind has come,
_PICTURE: Final = 4 << 20  # and of each picture of one
_LONGEST: Final = 3_072  # numbers of a vector, where the request does not say how many
_NUMBER, _PACKED = 24, 6  # bytes of each: as JSON, `-0.0123456789012345678, ` say, and in base64
_ROW: Final = 128  # bytes around a vector
_FADING: Final = 16  # what is expected comes nearer to what comes by one part of so many
_DIGITS: Final = 7
_KINDS: Final = 1_000  # of answers that are known: what makes one is for callers to choose

Kind = tuple[object, ...]


class Answers:
    """What lines hold of answers.

    Args:
        most: bytes of all.
        stopping: says whether the process begins nothing any more.
    """

    __slots__ = ("_held", "_load", "_longest")

    def __init__(self, most: int, stopping: Callable[[], bool]) -> None:
        self._load = Load(most, stopping)
        self._held: dict[tuple[int, int, int], int] = {}  # by batch, line and fencing number
        self._longest: dict[Kind, int] = {}  # what is expected for each text of a request, by what was asked

    @property
    def taken(self) -> int:
        """Bytes that are taken, of those that came and of those that are expected."""
        return self._load.taken

    async def take(self, batch: KeptBatch, claim: Claim, call: Call) -> None:
        """Wait until there is room for the answer of a line, and take it.

        Raises:
            Unavailable: we stop.
        """
        size = self._expected(call) if claim.answer is None else len(claim.answer)
        await self._load.take(size)
        self._held[batch.n, claim.n, claim.fence] = size

    def came(self, batch: KeptBatch, line: Finished | Returned, call: Call) -> None:
        """Take in how long the output of a line is, for which room was taken or not."""
        name = (batch.n, line.n, line.fence)
        size = len(line.output) if isinstance(line, Finished) else 0
        self._load.give(self._held.get(name, 0) - size)
        self._held[name] = size
        if isinstance(line, Finished) and line.answered:  # an error says nothing of how long answers are
            self._learn(_kind(call), -(-size // call.inputs))

    def _learn(self, kind: Kind, each: int) -> None:
        """Take in how long an answer was, for each text of its request."""
        longest = self._longest.pop(kind, 0)
        self._longest[kind] = max(each, longest - (longest - each) // _FADING)
        if len(self._longest) > _KINDS:
            del self._longest[next(iter(self._longest))]  # that came last the longest ago

    def give(self, batch: KeptBatch, lines: Iterable[Finished | Returned]) -> None:
        """Give back the room of lines of which all is kept."""
        for line in lines:
            self._load.give(self._held.pop((batch.n, line.n, line.fence), 0))

    def _expected(self, call: Call) -> int:
        each = self._longest.get(_kind(call))
        if each is None:
            each = _guess(call)
        return max(_LEAST, call.inputs * each)


def _guess(call: Call) -> int:
    """Return how long an answer may be, for each text of the request, before one of its kind has come."""
    if call.operation == "embeddings":
        numbers = min(_number(call, "dimensions") or _LONGEST, _LONGEST)
        return _ROW + numbers * (_PACKED if _packed(call) else _NUMBER)
    if call.operation in {"images", "image_edits"}:
        return _PICTURE * max(1, _number(call, "n"))
    return _USUAL


def _kind(call: Call) -> Kind:
    """Return what answers of one length have in common."""
    return call.operation, call.model, _number(call, "dimensions"), _packed(call), _number(call, "n")


def _number(call: Call, member: str) -> int:
    raw = bytes(call.members.get(member, b""))
    return int(raw) if raw.isdigit() and len(raw) < _DIGITS else 0


def _packed(call: Call) -> bool:
    return bytes(call.members.get("encoding_format", b"")) == b'"base64"'
