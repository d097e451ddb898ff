"""Upper bounds of what a call can use and cost. A hold rests on them, so they are never below the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.money.cost import upper_bound

if TYPE_CHECKING:
    from headgate.values import Call, NanoUSD, Target

UNKNOWN_IMAGE = 50_000  # tokens: above what any known model counts for one image
DEFAULT_OUTPUT = 32_768  # tokens per choice, where neither the caller nor the model sets a limit


def output_bound(call: Call, target: Target) -> int:
    """Return the most output tokens that a call can make at a target."""
    if call.operation == "embeddings":
        return 0
    limit = call.shrunk_to or call.max_output or target.model.max_output or DEFAULT_OUTPUT
    return limit * call.n


def input_bound(call: Call, target: Target) -> int:
    """Return an upper bound of the input tokens: UTF-8 bytes times the model's factor."""
    factor = target.model.bytes_factor_ppm
    images = call.images * (target.model.image_tokens or UNKNOWN_IMAGE) if call.images else 0
    if factor == 1_000_000:
        return call.input_bound + images
    return -(-call.input_bound * factor // 1_000_000) + images


def bound(call: Call, targets: tuple[Target, ...]) -> NanoUSD:
    """Return what the call can cost at the dearest of its targets."""
    worst = 0
    for target in targets:
        if target.prices is not None:
            limit = output_bound(call, target)
            worst = max(worst, upper_bound(input_bound(call, target), limit, target.prices))
    return worst


def rough_input(call: Call) -> int:
    """Return a guess of the input's tokens without a tokenizer: a quarter of its bytes."""
    return -(-call.input_bound // 4)
