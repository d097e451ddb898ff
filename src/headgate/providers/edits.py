"""Reading an answer as far as we look, and the byte edits that keep the rest as it came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import CallerError, UpstreamInterrupted
from headgate.wire.answers import NOT_JSON, UNREADABLE, Answer, decode_answer, decode_without_usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.values import Operation, Usage

_encode = msgspec.json.encode
members_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def read_answer(body: bytes) -> Answer:
    """Decode an answer as far as we look at it.

    Raises:
        UpstreamInterrupted: it is not JSON, or not of the wire's types.
    """
    try:
        return decode_answer(body)
    except msgspec.ValidationError:
        return _without_usage(body)
    except NOT_JSON as fault:
        raise UpstreamInterrupted("The provider sent an answer that is not the API's JSON.") from fault


def _without_usage(body: bytes) -> Answer:
    """Decode an answer whose usage may be what is wrong: then it is there and not believed."""
    try:
        found = decode_without_usage(body)
    except NOT_JSON as fault:
        raise UpstreamInterrupted("The provider sent an answer that is not the API's JSON.") from fault
    return Answer(found.model, found.choices, found.data, UNREADABLE, found.error)


def splice_model(body: bytes, model: str) -> bytes:
    """Put the name that the caller used in place of the upstream's.

    A raw `"model":"` cannot occur inside a JSON string, whose quotes are escaped.
    """
    start = body.find(b'"model":')
    if start < 0:
        return body
    opening = body.find(b'"', start + 8)
    if body[start + 8 : opening].strip():  # null: the next quote is another member's
        return body
    closing = body.find(b'"', opening + 1)
    return body[:opening] + _encode(model) + body[closing + 1 :]


def splice_usage(body: bytes, usage: Usage, operation: Operation) -> bytes:
    """Put our count in place of the provider's, or where it gave none; the rest stays as it came."""
    members = members_of(body)
    members["usage"] = msgspec.Raw(_encode(usage_object(usage, operation)))
    return _encode(members)


def usage_object(usage: Usage, operation: Operation) -> dict[str, Any]:
    """Return `usage` as OpenAI writes it."""
    total = usage.input_tokens + usage.output_tokens
    if operation == "embeddings":
        return {"prompt_tokens": usage.input_tokens, "total_tokens": total}
    given = {"cached_tokens": usage.cached_tokens, "audio_tokens": usage.input_audio_tokens}
    if usage.cache_write_tokens:
        given["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": total,
        "prompt_tokens_details": given,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.output_audio_tokens,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def checked_headers(*groups: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the constant headers of every request to a host; later groups win.

    Raises:
        CallerError: one of them holds a character that HTTP does not allow.
    """
    rows = {"content-type": "application/json", "accept": "*/*", "accept-encoding": "identity"}
    for group in groups:
        rows.update({name.lower(): value for name, value in group.items()})
    for name, value in rows.items():
        if any(ord(char) < 32 or ord(char) > 126 for char in name + value):
            raise CallerError(
                f"The header {name!r} of a provider holds a character that HTTP does not allow."
            )
    return tuple(rows.items())
