"""Google's `usageMetadata` as our count.

`promptTokenCount` has the cached part in it, `toolUsePromptTokenCount` is beside it. Thoughts are beside
`candidatesTokenCount`, but for some answers, whose total says that they are within. A part by modality is
taken out of what is cached of it, for the prices of both are for different tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.providers.events import Counted
from headgate.values import Usage
from headgate.wire.answers import MOST_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterator

_COUNTS = (
    *("promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"),
    *("cachedContentTokenCount", "totalTokenCount"),
)


def read_usage(given: Any) -> Iterator[Counted]:
    """Yield the count, or that there is one which cannot be true; nothing where nothing is counted yet."""
    if not isinstance(given, dict):
        yield Counted(None)
    elif given.keys() & set(_COUNTS):
        yield Counted(_usage(given))


def _usage(given: dict[str, Any]) -> Usage | None:
    counts = [given.get(name) or 0 for name in _COUNTS]
    made_of = given.get("candidatesTokensDetails")
    heard_of = given.get("promptTokensDetails")
    spoken = [_of_modality(heard_of), _of_modality(made_of), _of_modality(made_of, "IMAGE")]
    cached_audio = _of_modality(given.get("cacheTokensDetails"))
    if any(type(count) is not int or not 0 <= count <= MOST_TOKENS for count in (*counts, *spoken)):
        return None
    prompt, brought, made, thought, cached, total = counts
    if not (thought and total == prompt + brought + made):
        made += thought
    tokens = prompt + brought
    if cached > tokens or thought > made or not tokens + made:
        return None
    heard = max(0, min(spoken[0] - cached_audio, tokens - cached))
    painted = min(spoken[2], made - thought)
    more = (("output_image", painted),) if painted else ()
    return Usage(tokens, made, cached, 0, thought, heard, min(spoken[1], made - thought), more)


def _of_modality(details: Any, modality: str = "AUDIO") -> int:
    """Return the tokens of sound, or of another modality; -1 where that cannot be read."""
    total = 0
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and detail.get("modality") == modality:
            count = detail.get("tokenCount", 0)
            if type(count) is not int or count < 0:
                return -1
            total += count
    return total
