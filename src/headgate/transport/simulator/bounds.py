"""Numbers and sizes within the bounds of a JSON Schema."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.transport.simulator.asked import JSONObject


def size(value: object, default: int) -> int:
    """Return a length or a count that a schema gives, or the default."""
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default


def within(given: JSONObject, value: float, *, whole: bool) -> float:
    """Return the number nearest to `value` that the schema allows."""
    low, high = limits(given, whole=whole)
    step = given.get("multipleOf")
    if not isinstance(step, (int, float)) or step <= 0:
        step = 1 if whole else None
    elif whole and not float(step).is_integer():
        step = math.ceil(step) if step > 1 else 1
    value = min(max(value, low), high)
    if step is not None:
        count = round(value / step)
        count = math.floor(high / step) if count * step > high else count
        count = math.ceil(low / step) if count * step < low else count
        value = count * step
    return (
        int(value)
        if whole or (isinstance(value, float) and value.is_integer() and abs(value) < 2**53)
        else value
    )


def limits(given: JSONObject, *, whole: bool) -> tuple[float, float]:
    """Return the least and the greatest number that a schema allows."""
    low = _number(given.get("minimum"), -math.inf)
    high = _number(given.get("maximum"), math.inf)
    above, below = given.get("exclusiveMinimum"), given.get("exclusiveMaximum")
    # In the older drafts these are booleans about the other two.
    above = low if above is True else _number(above, -math.inf)
    below = high if below is True else _number(below, math.inf)
    if above >= low and not math.isinf(above):
        low = math.floor(above) + 1 if whole else above + max(1e-6, abs(above) * 1e-9)
    if below <= high and not math.isinf(below):
        high = math.ceil(below) - 1 if whole else below - max(1e-6, abs(below) * 1e-9)
    return low, high


def _number(value: object, default: float) -> float:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else default


def other_than(made: list[Any], value: Any, given: JSONObject) -> Any:
    """Return a value that is not among those made, for `uniqueItems`."""
    if value not in made:
        return value
    if isinstance(given.get("enum"), list):
        return next((v for v in given["enum"] if v not in made), value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        step = given.get("multipleOf") or 1
        tried = (value + sign * n * step for n in range(1, len(made) + 2) for sign in (1, -1))
        low, high = limits(given, whole=isinstance(value, int))
        return next((v for v in tried if low <= v <= high and v not in made), value)
    if isinstance(value, str):
        return next(text for n in range(2, len(made) + 3) if (text := f"{value} {n}") not in made)
    return value
