"""The one policy for what a target cannot honour; see `reconcile`.

==============================  =========================  ===============  ===================
a member that is not honoured   as usual                   `strict`         `lenient`
==============================  =========================  ===============  ===================
says what is so anyway          left out                   left out         left out
generic tuning                  left out, and named in     400              left out, and named
                                `x-headgate-dropped`
a feature: what the caller      400                        400              left out, and named
would miss in the answer
unknown to OpenAI               left out, and named        400              left out, and named
==============================  =========================  ===============  ===================

A 400 is OpenAI's `unsupported_parameter`. Null, and a value that is the default, say nothing. What a codec
can emulate exactly (a schema by a forced tool, a choice among tools by sending only those) it honours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.providers.parts import unsupported
from headgate.values import Note
from headgate.wire.checks import decode_any, unknown

if TYPE_CHECKING:
    from collections.abc import Collection

    import msgspec

    from headgate.values import Call, Target

# What only shapes, speeds up, labels or stores the answer: without it the answer is of the same kind.
TUNING = frozenset(
    {
        *("temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias", "seed", "verbosity"),
        *("reasoning_effort", "prediction", "service_tier", "store", "metadata", "user", "safety_identifier"),
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
    }
)
# What every codec of another wire reads by itself, or has no need of.
_READ = frozenset({"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"})
_ANYWAY: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "store": (False,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "parallel_tool_calls": (True,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"], []),
    "service_tier": ("auto", "default"),
    "verbosity": ("medium",),
    "metadata": ({},),
    "tools": ([],),
    "functions": ([],),
    "function_call": ("none", "auto"),
}
_NEEDS_TOOLS = frozenset({"tool_choice", "parallel_tool_calls"})


def reconcile(call: Call, target: Target, honoured: Collection[str]) -> dict[str, Any]:
    """Return the decoded members that a codec honours, messages and limits apart; notes what was left out.

    Args:
        call: gets a note for each member that is left out.
        target: its `parameters` say whether to be strict or lenient.
        honoured: the members that the codec can express; OpenAI's and its own.

    Raises:
        CallerError: a member that must not be left out.
    """
    given = {}
    for name, raw in call.members.items():
        if name in _READ:
            continue
        if not says_something(name, raw):
            continue
        if name in honoured:
            given[name] = decode_any(raw)
        else:
            leave_out(call, target, name, tuning=name in TUNING or name in call.unknown)
    if "tools" not in given:
        for name in _NEEDS_TOOLS & given.keys():
            del given[name]
    return given


def says_something(name: str, raw: msgspec.Raw) -> bool:
    """Say whether a member changes anything: null does not, nor does a value that is the default."""
    value = decode_any(raw)
    return value is not None and value not in _ANYWAY.get(name, ())


def leave_out(call: Call, target: Target, name: str, *, tuning: bool) -> None:
    """Note that a member, or a value of one, is left out; once, however often it stands.

    Raises:
        CallerError: it must not be, by what the target's model is set to.
    """
    stance = target.parameters
    if name in call.unknown and (stance == "strict" or target.host.extras == "refuse"):
        raise unknown(name)
    if stance == "strict" or not (tuning or stance == "lenient"):
        raise unsupported(name)
    note = Note("x-headgate-dropped", name)
    if note not in call.notes:
        call.notes.append(note)
