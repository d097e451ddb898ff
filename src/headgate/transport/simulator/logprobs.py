"""Log probabilities in the shapes of both wires: plausible, and the same for the same text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Sequence

_OTHERS = (
    " the", ",", ".", " a", " and", " to", "\n", " of", " in", " is", "!",
    " that", " it", " for", "的", "是", "。", " you", " on", " with", " as",
)  # fmt: skip


def chat_logprobs(pieces: Sequence[str], top: int) -> list[dict[str, Any]]:
    """Return one row per piece, each with the `top` most likely pieces at its place."""
    rows = []
    for piece in pieces:
        best = _best(piece)
        likely = [(piece, best), *_others(piece, best)][:top]
        rows.append({**_row(piece, best), "top_logprobs": [_row(text, logprob) for text, logprob in likely]})
    return rows


def completion_logprobs(pieces: Sequence[str], top: int, offset: int) -> dict[str, Any]:
    """Return the legacy shape; `offset` is where the first piece stands in the text."""
    offsets = []
    for piece in pieces:
        offsets.append(offset)
        offset += len(piece)
    return {
        "tokens": list(pieces),
        "token_logprobs": [_best(piece) for piece in pieces],
        "top_logprobs": [
            dict([(piece, _best(piece)), *_others(piece, _best(piece))][:top]) for piece in pieces
        ]
        if top
        else None,
        "text_offset": offsets,
    }


def _row(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _best(piece: str) -> float:
    return -round((crc32(piece.encode()) % 9_973) / 20_000, 6)


def _others(piece: str, best: float) -> list[tuple[str, float]]:
    others = [text for text in _OTHERS if text != piece]
    return [(text, round(best - 1.5 - 0.625 * place, 6)) for place, text in enumerate(others)]
