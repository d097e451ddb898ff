"""OpenAI's two tokenizers from the vocabularies that are shipped with the package.

tiktoken's own loader fetches the files over the network or trusts a cache folder; here they are
read from the package, checked against the hashes that tiktoken pins, and handed to its encoder.
"""

from __future__ import annotations

import asyncio
import binascii
import gzip
import hashlib
import re
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.money.pricedata import DATA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import tiktoken

# tiktoken's patterns look ahead over white space, and overflow their stack on a run of a million. A word of
# many millions takes it minutes and 60 bytes for each; Chinese of a hundred thousand may well have no space.
LONGEST_RUN: Final = 100_000
LONGEST_WORD: Final = 1_000_000

# Not `{LONGEST_RUN,}`, which would scan a run that is just too short again from each of its places.
_RUN = re.compile(r"\s{64,}|\S{64,}")
_LINES = 2_000  # parsed at a time: about 2 ms, after which other threads get their turn


class Encoding(msgspec.Struct, frozen=True):
    """One tokenizer as tiktoken 0.14 defines it (a test compares)."""

    sha256: str
    pattern: str
    special_tokens: dict[str, int]


ENCODINGS: Final[dict[str, Encoding]] = {
    "cl100k_base": Encoding(
        sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        pattern=(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
            r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
        ),
        special_tokens={
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k_base": Encoding(
        sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        pattern=(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*"
            r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
            r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
            r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        special_tokens={"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    ),
}


class Vocabularies:
    """The tokenizers that are loaded, each at most once. Safe to use from several threads.

    A loaded tokenizer takes 40 to 80 MB and half a second of CPU, so nothing is loaded before it
    is asked for.

    Args:
        folder: where the vocabularies lie, gzipped.
    """

    def __init__(self, folder: Path = DATA / "vocab") -> None:
        self._folder = folder
        self._loaded: dict[str, tiktoken.Encoding] = {}
        self._loading = threading.Lock()

    def ready(self, encoding: str) -> bool:
        """Say whether an encoding is loaded."""
        return encoding in self._loaded

    def load_now(self, encoding: str) -> None:
        """Load an encoding in this thread; half a second the first time.

        Raises:
            KeyError: no such encoding is shipped.
            ValueError: the vocabulary is not the one that tiktoken pins.
        """
        with self._loading:
            if encoding not in self._loaded:
                self._loaded[encoding] = _read(self._folder, encoding)

    async def load(self, encoding: str) -> None:
        """Load an encoding in a thread.

        tiktoken's constructor keeps the interpreter's lock for about 0.2 s, once per encoding.

        Raises:
            KeyError: no such encoding is shipped.
            ValueError: the vocabulary is not the one that tiktoken pins.
        """
        if encoding not in self._loaded:
            await asyncio.to_thread(self.load_now, encoding)

    def encode(self, encoding: str, text: str) -> list[int]:
        """Return the token ids of a text; special tokens in it are only text.

        A run of more than `LONGEST_RUN` white space characters, or `LONGEST_WORD` others, is encoded in
        pieces, which may differ from the whole by a token at each cut.

        Raises:
            KeyError: the encoding is not loaded.
        """
        return [token for piece in self._encoded(encoding, text) for token in piece]

    def decode(self, encoding: str, ids: list[int]) -> bytes:
        """Return the UTF-8 bytes of token ids, which may end within a character.

        Raises:
            KeyError: the encoding is not loaded, or has no such id.
        """
        return self._loaded[encoding].decode_bytes(ids)

    def count_text(self, encoding: str, text: str) -> int:
        """Return how many tokens a text is, as `encode` makes them.

        Raises:
            KeyError: the encoding is not loaded.
        """
        return sum(map(len, self._encoded(encoding, text)))

    def _encoded(self, encoding: str, text: str) -> Iterator[list[int]]:
        return map(self._loaded[encoding].encode_ordinary, pieces(text))


def pieces(text: str) -> list[str]:
    """Return a text cut so that no piece has a longer run of any kind than can be encoded."""
    if len(text) <= LONGEST_RUN:
        return [text]
    cuts = [0]
    for run in _RUN.finditer(text):
        start, end = run.span()
        if end - start > LONGEST_WORD or text[start].isspace():
            cuts.extend(range(start + LONGEST_RUN, end, LONGEST_RUN))
    return [text[start:end] for start, end in pairwise((*cuts, len(text)))]


def _read(folder: Path, name: str) -> tiktoken.Encoding:
    encoding = ENCODINGS[name]
    packed = (folder / f"{name}.tiktoken.gz").read_bytes()
    try:
        data = gzip.decompress(packed)
    except (OSError, EOFError) as error:
        raise ValueError(f"the vocabulary {name} is damaged: {error}") from error
    if hashlib.sha256(data).hexdigest() != encoding.sha256:
        raise ValueError(f"the vocabulary {name} is not the published one (SHA-256 differs)")
    ranks = _ranks(data)
    import tiktoken  # 35 ms, and nothing that only serves needs it

    return tiktoken.Encoding(
        name,
        pat_str=encoding.pattern,
        mergeable_ranks=ranks,
        special_tokens=encoding.special_tokens,
    )


def _ranks(data: bytes) -> dict[bytes, int]:
    words = data.split()  # token in base64, rank, token, rank, …
    ranks: dict[bytes, int] = {}
    for start in range(0, len(words), 2 * _LINES):
        piece = words[start : start + 2 * _LINES]
        ranks.update(zip(map(binascii.a2b_base64, piece[::2]), map(int, piece[1::2]), strict=True))
    return ranks
