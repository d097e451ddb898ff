"""Does the request fit its model: the context window and the output limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.errors import CallerError

if TYPE_CHECKING:
    from headgate.values import Call, Model, Target


def check_output(call: Call, model: Model) -> None:
    """Refuse an output limit above the model's own.

    Raises:
        CallerError: OpenAI's 400, naming both numbers.
    """
    if model.max_output and call.max_output is not None and call.max_output > model.max_output:
        name = "max_completion_tokens" if "max_completion_tokens" in call.members else "max_tokens"
        raise CallerError(
            f"{name} is too large: {call.max_output}. This model supports at most {model.max_output} "
            f"completion tokens, whereas you provided {call.max_output}.",
            param=name,
            code="invalid_value",
        )


def may_overflow(call: Call, target: Target) -> bool:
    """Say whether the input must be counted to know if the request fits the window.

    A token is at least one byte and usually three or four. Where a provider checks for itself, only
    what is likely too long is counted here; the rest is the provider's to refuse, in the same words.
    """
    window = target.model.context_window
    bytes_per_token = 1 if target.simulated else 3
    return bool(window) and call.input_bytes // bytes_per_token + (call.max_output or 0) > window


def check_window(call: Call, model: Model, tokens: int) -> None:
    """Refuse a prompt, or a prompt with its output limit, that is longer than the window.

    Args:
        call: the call; `max_output` is what it asks for.
        model: its model.
        tokens: the counted tokens of the input.

    Raises:
        CallerError: `context_length_exceeded`, in OpenAI's words.
    """
    window = model.context_window
    param = {"chat": "messages", "completions": "prompt"}.get(call.operation, "input")
    if tokens > window:
        raise CallerError(
            f"This model's maximum context length is {window} tokens. However, your {param} resulted in "
            f"{tokens} tokens. Please reduce the length of the {param}.",
            param=param,
            code="context_length_exceeded",
        )
    asked = call.max_output or 0
    if tokens + asked > window:
        total = tokens + asked
        raise CallerError(
            f"This model's maximum context length is {window} tokens. However, you requested {total} tokens "
            f"({tokens} in the {param}, {asked} in the completion). Please reduce the length of "
            f"the {param} or completion.",
            param=param,
            code="context_length_exceeded",
        )
