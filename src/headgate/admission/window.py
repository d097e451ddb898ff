"""Does the request fit its model: the context window and the output limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.errors import CallerError

if TYPE_CHECKING:
    from headgate.values import Call, Model, Target


def may_overflow(call: Call, target: Target) -> bool:
    """Check the output limit; say whether the input must be counted to know if the request fits the window.

    A token is at least one byte and usually three or four. Where a provider checks for itself, only
    what is likely too long is counted here; the rest is the provider's to refuse, in the same words.

    Raises:
        CallerError: OpenAI's 400 for a limit above the model's own, naming both numbers.
    """
    model, asked = target.model, call.max_output or 0
    if asked > model.max_output and model.max_output:
        raise _too_much(call, asked, model.max_output)
    if call.input_bytes + asked <= model.context_window:
        return False
    return model.context_window > 0 and (
        target.simulated or call.input_bytes // 3 + asked > model.context_window
    )


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


def _too_much(call: Call, asked: int, most: int) -> CallerError:
    name = "max_completion_tokens" if "max_completion_tokens" in call.members else "max_tokens"
    return CallerError(
        f"{name} is too large: {asked}. This model supports at most {most} "
        f"completion tokens, whereas you provided {asked}.",
        param=name,
        code="invalid_value",
    )
