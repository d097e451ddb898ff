"""What the models at Bedrock take, read off their names: ids, inference profiles and ARNs.

A name that says nothing (an application's inference profile) is taken for a model with none of these. Facts:
AWS's pages on prompt caching, structured output, reasoning and tool use, and what Bedrock answers.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from headgate.providers.anthropic.abilities import abilities_of as claude_abilities

# How a model is told to reason: Claude's own members, Nova's, a word, or a word inside `reasoning`.
Reasoning: TypeAlias = Literal["claude", "nova", "word", "nested", ""]
_SCHEMA = re.compile(
    r"(qwen3|deepseek\.v3|gemma-[34]|mistral-large-3|ministral|magistral|voxtral|devstral|nemotron|minimax|"
    r"kimi-k|glm-|gpt-)"
)


class Abilities(NamedTuple):
    """What one model takes."""

    claude: bool
    reasoning: Reasoning
    caches: bool  # marks in messages and the system's part
    caches_tools: bool
    schema: bool  # `outputConfig.textFormat`
    forced: bool  # a tool that is called for sure


@lru_cache(maxsize=1024)
def abilities_of(model: str) -> Abilities:
    """Return what a model takes."""
    name = model.lower()
    if "claude" in name:
        schema = claude_abilities(name).schema
        return Abilities(True, "claude", caches=True, caches_tools=True, schema=schema, forced=True)
    if "nova-" in name:
        reasoning: Reasoning = "nova" if "nova-2" in name else ""
        return Abilities(False, reasoning, caches=True, caches_tools=False, schema=False, forced=True)
    return Abilities(
        False,
        _word(name),
        caches=False,
        caches_tools=False,
        schema=_SCHEMA.search(name) is not None,
        forced="mistral-large" in name,
    )


def _word(name: str) -> Reasoning:
    if "gpt-oss" in name or "kimi-k" in name:
        return "word"
    return "nested" if "gpt-" in name else ""
