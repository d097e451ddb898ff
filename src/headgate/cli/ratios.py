"""Tokens per 汉字, per word and per character: of a text, and of a paragraph of each language."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from headgate.money.tokens import Tokenizers

# Plain prose, so that the ratios are those of plain prose.
CHINESE: Final = (
    "水渠的源头有一道闸门，它决定多少水可以流过，也记下流过的每一滴。天旱的年份，村里的人会在清晨聚到闸边，"
    "商量当天先浇哪一块田。管闸的老人不识字，却从来没有算错过一次水账。后来有人问他诀窍在哪里，他说很简单："
    "先记下来，再放水。"
)
ENGLISH: Final = (
    "At the head of the canal there is a gate. It decides how much water may flow, and it measures every "
    "drop that does. In dry years the farmers would meet there early in the morning and agree which field "
    "came first. The old man who kept the gate could not read, and yet his accounts were never wrong. When "
    "somebody asked him how he did it, he said that it was simple: write it down first, and open the gate "
    "afterwards."
)
_ENCODINGS: Final = {
    "o200k_base": "gpt-4o and later",
    "cl100k_base": "gpt-4, gpt-3.5-turbo, embeddings",
}
_HANZI: Final = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]")
_WORD: Final = re.compile(r"[^\W\d_\u3400-\u9fff\uf900-\ufaff]+(?:['’][^\W\d_]+)?")


class Ratios(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens per unit of a tokenizer on plain prose."""

    tokenizer: str
    models: str
    per_hanzi: float
    per_word: float
    per_character_chinese: float
    per_character_english: float

    def values(self) -> tuple[float, float, float, float]:
        """Return the figures."""
        return self.per_hanzi, self.per_word, self.per_character_chinese, self.per_character_english


def count_hanzi(text: str) -> int:
    """Return how many 汉字 a text has."""
    return len(_HANZI.findall(text))


def count_words(text: str) -> int:
    """Return how many words of an alphabet a text has."""
    return len(_WORD.findall(text))


def ratios_of_samples() -> list[Ratios]:
    """Count a paragraph of each language with each tokenizer."""
    tokenizers = Tokenizers()
    rows = []
    for encoding, models in _ENCODINGS.items():
        tokenizers.load_now(encoding)
        chinese = tokenizers.count_text(encoding, CHINESE)
        english = tokenizers.count_text(encoding, ENGLISH)
        rows.append(
            Ratios(
                tokenizer=encoding,
                models=models,
                per_hanzi=round(chinese / count_hanzi(CHINESE), 3),
                per_word=round(english / count_words(ENGLISH), 3),
                per_character_chinese=round(chinese / len(CHINESE), 3),
                per_character_english=round(english / len(ENGLISH), 3),
            )
        )
    return rows
