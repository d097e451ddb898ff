"""The `usage` object of an answer, true unless it was asked to lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.transport.simulator.wishes import Wish


def chat_usage(given: int, made: int, thought: int, wish: Wish) -> dict[str, Any] | None:
    """Return the usage of a chat completion.

    Args:
        given: tokens of the prompt.
        made: tokens of all choices.
        thought: tokens of reasoning, which count as completion tokens too.
        wish: what else the request asks for.
    """
    usage = _counts(given, made + thought, wish)
    if usage is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": min(wish.cached, given), "audio_tokens": 0}
        usage["completion_tokens_details"] = {
            "reasoning_tokens": thought,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        }
    return usage


def completion_usage(given: int, made: int, wish: Wish) -> dict[str, Any] | None:
    """Return the usage of a text completion, which has no details."""
    return _counts(given, made, wish)


def embeddings_usage(given: int, wish: Wish) -> dict[str, Any] | None:
    """Return the usage of embeddings, which make no tokens."""
    usage = _counts(given, 0, wish)
    if usage is not None:
        del usage["completion_tokens"]
    return usage


def _counts(given: int, made: int, wish: Wish) -> dict[str, Any] | None:
    if wish.is_for("nousage"):
        return None
    if wish.is_for("usage-zero"):
        given, made = 0, 0
    elif wish.is_for("usage-negative"):
        given, made = -given, -1
    elif wish.is_for("usage-huge"):
        given, made = 10**18, 10**18
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
