"""Moderations: by the word lists of the built-in classifier, which reads text alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from headgate.transport.lexical import CATEGORIES, flagged, scores
from headgate.transport.simulator.reply import Reply, error_reply, json_reply
from headgate.values import LEXICAL

if TYPE_CHECKING:
    from headgate.transport.simulator.counting import ModelTokens
    from headgate.transport.simulator.reply import Stamp
    from headgate.transport.simulator.wishes import Wish

_SHORT = 20_000  # characters that are searched on the loop


async def moderations_reply(
    members: dict[str, Any], _wish: Wish, _tokens: ModelTokens, stamp: Stamp
) -> Reply:
    """Return the answer to a decoded body of `/moderations`.

    The built-in classifier refuses images; the simulator says nothing of them.
    """
    given = members["input"]
    if isinstance(given, list) and isinstance(given[0], dict):
        if stamp.model == LEXICAL and any(part["type"] == "image_url" for part in given):
            message = f"{LEXICAL} reads text alone. Ask another model about images."
            return error_reply(400, message, "invalid_request_error", "unsupported_value")
        results = [await _parts(given)]
    else:
        results = [await _result(text, ["text"]) for text in ([given] if isinstance(given, str) else given)]
    return json_reply({"id": stamp.id("modr-"), "model": stamp.model, "results": results})


async def _parts(parts: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = sorted({"image" if part["type"] == "image_url" else "text" for part in parts})
    return await _result("\n".join(part["text"] for part in parts if part["type"] == "text"), kinds)


async def _result(text: str, kinds: list[str]) -> dict[str, Any]:
    found = scores(text) if len(text) < _SHORT else await asyncio.to_thread(scores, text)
    await asyncio.sleep(0)  # of many texts, each leaves the loop to others
    verdict = flagged(found)
    return {
        "flagged": any(verdict.values()),
        "categories": verdict,
        "category_scores": found,
        "category_applied_input_types": dict.fromkeys(CATEGORIES, kinds),
    }
