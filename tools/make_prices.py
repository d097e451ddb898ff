"""Generate `src/headgate/data/prices.json` from the installed `genai-prices` package.

    .venv/bin/python tools/make_prices.py [--dated YYYY-MM-DD] [--check]

The package's models are resolved here, once: every start date and daily window of a model becomes
a row of its own with whole prices, so that a reader only picks a row. Prices become integer
pico-USD per token. A figure that is finer than that (the package carries a few averages such as
0.08333333333333334 USD per million) is rounded to the nearest; every other figure is exact.

Seconds of audio, characters of speech and images have prices of their own beside the tokens, and so have
the image tokens of models that make images. What else a call's usage cannot be charged for is left
out, and so stays unpriced rather than cheap: pages, and models whose image or video tokens cost more
than their text tokens, which a usage does not tell apart.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from genai_prices import types as gp
from genai_prices.data import providers as package_providers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OUT = Path(__file__).parent.parent / "src/headgate/data/prices.json"
PICO = Decimal(10) ** 12
PER_MTOK = Decimal(10) ** 6
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

# Models that the package gives no price at all and that are known to cost nothing. Any other model
# without a price is unpriced: a wrong zero would be free money.
FREE = ("*:free", "openai/moderation", "google/gemma-*", "github-copilot/*")

# Token prices that a `Usage` cannot tell from text: modalities of the input and of the output.
UNSEEN = {
    "input_image_mtok": "input_mtok",
    "input_video_mtok": "input_mtok",
    "output_image_mtok": "output_mtok",
    "output_video_mtok": "output_mtok",
}

# Models whose usage does tell them apart, in units of their own: what the price of one is on top of.
# That is the usage of the Realtime API, and of models that make images.
TOLD_APART = ("openai/gpt-realtime*", "openai/*image*", "google/*image*", "google/*banana*")
ON_TOP = {
    "input_image": ("input_image_mtok", "input_mtok"),
    "output_image": ("output_image_mtok", "output_mtok"),
    "cached_image": ("cache_image_read_mtok", "cache_read_mtok"),
    "cached_audio": ("cache_audio_read_mtok", "cache_read_mtok"),
}

# Audio prices that the package lacks: USD per million audio tokens in and out, by name.
# From OpenAI's price page, as carried by litellm 1.106.2's price map.
AUDIO = {
    "openai/gpt-4o-audio-preview": ("40", "80"),
    "openai/gpt-4o-mini-audio-preview": ("10", "20"),
}

# Prices of other units than tokens: what the package calls them, how much of ours that is, and our name.
UNITS = {
    "audio_hours": (Decimal(3600), "second"),
    "input_mchars": (Decimal(1_000_000), "character"),
}
# Models that the package does not have any more: USD for one image, by size and quality.
# From OpenAI's price page, as carried by litellm 1.106.2's price map.
IMAGES = {
    "openai": {
        "dall-e-2": {"256x256": "0.016", "512x512": "0.018", "1024x1024": "0.02"},
        "dall-e-3": {
            "1024x1024:hd": "0.08", "1024x1024": "0.04", "1792x1024:hd": "0.12", "1792x1024": "0.08",
            "1024x1792:hd": "0.12", "1024x1792": "0.08",
        },
    },
}  # fmt: skip
# Videos, which the package leaves out: USD a second, and a second of a resolution that costs more.
# Of the Gemini API, as pages of May 2026 quote Google's own: https://reapi.ai/blog/cheapest-veo-3-1-api-2026 has all of
# them. Veo 3.1 Fast was lowered by 14 to 33 percent on 2026-04-07.
VIDEOS = {
    "google": {
        "veo-3.1-generate-preview": {"second": "0.40", "second:4k": "0.60"},
        "veo-3.1-fast-generate-preview": {
            "second": "0.10",
            "second:1080p": "0.12",
            "second:4k": "0.30",
        },
        "veo-3.1-lite-generate-preview": {"second": "0.05", "second:1080p": "0.08"},
    },
    # As pages of 2026 quote xAI's own: https://docs.krea.ai/api-reference/video/grok-imagine for the first,
    # https://inference.sh/apps/xai/grok-imagine-video-1-5 of 2026-11-06 for the second.
    "x-ai": {
        "grok-imagine-video": {"second:480p": "0.05", "second:720p": "0.07"},
        "grok-imagine-video-1.5": {"second:480p": "0.08", "second:720p": "0.14", "second:1080p": "0.25"},
    },
}

# What people and our host rows call providers that the package names otherwise.
ALIASES = {
    "azure-openai": "azure",
    "bedrock": "aws",
    "bigmodel": "zhipuai",
    "copilot": "github-copilot",
    "gemini": "google",
    "glm": "zhipuai",
    "grok": "x-ai",
    "kimi": "moonshotai",
    "moonshot": "moonshotai",
    "vertex": "google",
    "vertex-claude": "google",
    "xai": "x-ai",
    "z.ai": "zai",
    "zhipu": "zhipuai",
}

WINDOWS = tuple[int, int]


def pico(value: Decimal, per: Decimal = PER_MTOK) -> int:
    """Convert USD per `per` units to the nearest integer pico-USD per unit."""
    return int((value * PICO / per).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def band(value: Any, above: int) -> Decimal | None:
    """Return a price for inputs longer than `above` tokens (0: the base price)."""
    if not isinstance(value, gp.TieredPrices):
        return value
    price = value.base
    for tier in value.tiers:
        if tier.start <= above and above:
            price = tier.price
    return price


def thresholds(prices: Mapping[str, Any]) -> list[int]:
    """Return the lengths above which another price band starts, ascending."""
    tiered = [value for value in prices.values() if isinstance(value, gp.TieredPrices)]
    return sorted({tier.start for value in tiered for tier in value.tiers})


def one_band(prices: Mapping[str, Any], above: int) -> list[int]:
    """Return the eight unit prices of one band, each part falling back to what it is part of."""

    def usd(key: str) -> Decimal | None:
        return band(prices.get(key), above)

    def unit(key: str, fallback: int) -> int:
        value = usd(key)
        return fallback if value is None else pico(value)

    text_in, text_out = unit("input_mtok", 0), unit("output_mtok", 0)
    return [
        text_in,
        text_out,
        unit("cache_read_mtok", text_in),
        unit("cache_write_mtok", text_in),
        unit("output_reasoning_mtok", text_out),
        unit("input_audio_mtok", text_in),
        unit("output_audio_mtok", text_out),
        pico(usd("requests_kcount") or Decimal(0), Decimal(1000)),
    ]


def whole(prices: Mapping[str, Any]) -> list[Any]:
    """Return `Prices` as an array: the base band, and the long ones nested in it."""
    starts = [0, *thresholds(prices)]
    nested: list[Any] | None = None
    for index in range(len(starts) - 1, -1, -1):
        row: list[Any] = one_band(prices, starts[index])
        if nested is not None:
            row += [starts[index + 1], nested]
        elif row[-1] == 0:
            row.pop()  # no fee per request: the reader's default
        nested = row
    assert nested is not None
    return nested


def set_prices(prices: gp.ModelPrice) -> dict[str, Any]:
    """Return the prices that are set, by the package's keys."""
    return {key: value for key, value in vars(prices).items() if value is not None}


def is_unseen(prices: Mapping[str, Any]) -> bool:
    """Say whether a modality that usage does not split costs more than text."""
    return any(
        key in prices and band(prices[key], 0) > (band(prices.get(base), 0) or 0)
        for key, base in UNSEEN.items()
    )


def row_prices(provider: str, model: str, prices: Mapping[str, Any]) -> list[Any] | None:
    """Return the array of `Prices`, or None where usage cannot be charged for by token."""
    if not prices:
        name = f"{provider}/{model}"
        return [0] * 7 if any(fnmatchcase(name, free) for free in FREE) else None
    units = other_units(f"{provider}/{model}", prices)
    told_apart = any(fnmatchcase(f"{provider}/{model}", name) for name in TOLD_APART)
    tokens = prices.keys() & {"input_mtok", "output_mtok", "requests_kcount"}
    if (is_unseen(prices) and not told_apart) or not (tokens or units):
        return None
    prices = dict(prices)
    if audio := AUDIO.get(f"{provider}/{model}"):
        prices.setdefault("input_audio_mtok", Decimal(audio[0]))
        prices.setdefault("output_audio_mtok", Decimal(audio[1]))
    return with_units(whole(prices), units)


def other_units(name: str, prices: Mapping[str, Any]) -> list[Any]:
    """Return the prices of other units; tokens of some modalities cost what they do beyond those of text."""
    units = [[ours, pico(band(prices[key], 0), per)] for key, (per, ours) in UNITS.items() if key in prices]
    if any(fnmatchcase(name, told) for told in TOLD_APART):
        units += [
            [ours, pico(band(prices[key], 0) - (band(prices.get(base), 0) or 0))]
            for ours, (key, base) in ON_TOP.items()
            if key in prices and band(prices[key], 0) > (band(prices.get(base), 0) or 0)
        ]
    return units


def with_units(row: list[Any], units: list[Any]) -> list[Any]:
    """Return an array of `Prices` with prices of other units."""
    if not units:
        return row
    assert len(row) <= 8, "a model with bands has no units"
    return [*row, *[0] * (8 - len(row)), 0, None, units]


def constraints(model: gp.ModelInfo) -> Iterable[Any]:
    """Yield every condition that a price of the model depends on."""
    if not isinstance(model.prices, gp.ModelPrice):
        yield from (price.constraint for price in model.prices)
    yield from (variant.constraint for variant in model.price_variants or ())


def day_windows(model: gp.ModelInfo) -> list[WINDOWS]:
    """Return the daily windows of a model in seconds of the UTC day; they must not overlap."""
    found = {
        (seconds(c.start_time), seconds(c.end_time))
        for c in constraints(model)
        if isinstance(c, gp.TimeOfDateConstraint)
    }
    windows = sorted(found)
    for before, after in itertools.pairwise(windows):
        assert before[1] <= after[0], f"overlapping windows: {model.id}"
    assert all(start < end for start, end in windows), f"a window over midnight: {model.id}"
    return windows


def seconds(value: time) -> int:
    """Return a UTC time of day in seconds."""
    assert value.utcoffset() in {None, timedelta(0)}
    return value.hour * 3600 + value.minute * 60 + value.second


def tier_name(when: Mapping[str, str]) -> str | None:
    """Return what a request context is called in the file; None where the tier is the standard."""
    if len(when) != 1:
        return None
    ((key, value),) = when.items()
    if key == "processing":
        return value
    if key == "service_tier":
        return None if value == "default" else value
    return f"{key}={value}" if key == "speed" else None


def rows(provider: str, model: gp.ModelInfo) -> list[Any]:
    """Return the dated rows of a model, those that win last."""
    dates = sorted({c.start_date for c in constraints(model) if isinstance(c, gp.StartDateConstraint)})
    windows = day_windows(model)
    out: list[Any] = []
    for since in ("", *dates):
        for start, end in [(0, 0), *windows]:
            moment = outside(windows) if (start, end) == (0, 0) else start
            row = resolve(provider, model, at(since, moment))
            day = since.isoformat() if isinstance(since, date) else ""
            if not out or out[-1][3:] != row or windows:
                out.append([day, start, end, *row])
    return out if any(row[3] for row in out) else []


def at(since: date | str, second: int) -> datetime:
    """Return the moment of a day at which a row is read off."""
    day = datetime.combine(since, time(), UTC) if isinstance(since, date) else LONG_AGO
    return day + timedelta(seconds=second)


def outside(windows: list[WINDOWS]) -> int:
    """Return a second of the day that no window covers."""
    second = 0
    for start, end in windows:
        if start <= second < end:
            second = end
    return second


def resolve(provider: str, model: gp.ModelInfo, moment: datetime) -> list[Any]:
    """Return the standard prices and the tiers' prices at a moment."""
    standard = set_prices(model.get_prices(moment))
    prices = row_prices(provider, model.id, standard)
    tiers: dict[str, Any] = {}
    for variant in model.price_variants or ():
        name = tier_name(variant.when)
        active = variant.constraint is None or variant.constraint.active(moment)
        if name is None or name in tiers or not active or prices is None:
            continue
        tier = row_prices(provider, model.id, set_prices(model.get_prices(moment, variant.when)))
        if tier is not None:
            tiers[name] = tier
    return [prices, tiers] if tiers else [prices]


def clauses(match: Any) -> list[Any]:
    """Return a match rule as a list of alternatives; a bare string is a whole name."""
    alternatives = match.or_ if isinstance(match, gp.ClauseOr) else [match]
    out: list[Any] = []
    for clause in alternatives:
        match clause:
            case gp.ClauseEquals():
                out.append(clause.equals.lower())
            case gp.ClauseStartsWith():
                out.append(["^", clause.starts_with.lower()])
            case gp.ClauseEndsWith():
                out.append(["$", clause.ends_with.lower()])
            case gp.ClauseContains():
                out.append(["*", clause.contains.lower()])
            case gp.ClauseRegex():
                out.append(["~", clause.regex])
            case gp.ClauseAnd():
                out.append(["&", *(clauses(part) for part in clause.and_)])
            case gp.ClauseOr():
                out.extend(clauses(clause))
    return out


def model_row(provider: str, model: gp.ModelInfo) -> list[Any]:
    """Return one model: id, context window, whether it is a current name, match rule, rows."""
    match = clauses(model.match)
    name = model.id.lower()
    # Some ids only stand for a family; what matches nothing but by its parts is not a name.
    named = name in match or (["^", name] in match and name[-1] != "-")
    current = named and not model.deprecated
    return [model.id, model.context_window or 0, current, match, rows(provider, model)]


def build(dated: str) -> str:
    """Return the whole file, one model per line, so that a difference can be read."""

    def dumps(value: Any) -> str:
        return msgspec.json.encode(value).decode()

    lines = [
        "{",
        f'"source":{dumps("genai-prices " + version("genai-prices"))},',
        f'"dated":{dumps(dated)},',
        f'"aliases":{dumps(ALIASES)},',
        f'"hosts":{dumps({p.id: p.api_pattern for p in package_providers})},',
        '"providers":{',
    ]
    for position, provider in enumerate(package_providers):
        head = {
            "name": provider.name,
            "source": (provider.pricing_urls or [""])[0],
            "fallback": provider.fallback_model_providers or [],
        }
        priced = [model_row(provider.id, model) for model in provider.models]
        for model, sizes in IMAGES.get(provider.id, {}).items():
            units = [[f"image:{size}", pico(Decimal(usd), Decimal(1))] for size, usd in sizes.items()]
            priced.append([model, 0, False, [model], [["", 0, 0, with_units([0] * 7, units)]]])
        for model, seconds in VIDEOS.get(provider.id, {}).items():
            units = [[unit, pico(Decimal(usd), Decimal(1))] for unit, usd in seconds.items()]
            priced.append([model, 0, True, [model], [["", 0, 0, with_units([0] * 7, units)]]])
        models = ",\n".join(map(dumps, priced))
        comma = "," if position < len(package_providers) - 1 else ""
        lines.append(f'{dumps(provider.id)}:{dumps(head)[:-1]},"models":[\n{models}\n]}}{comma}')
    return "\n".join([*lines, "}", "}"]) + "\n"


def known_date() -> str:
    """Return the date of the file at hand, if it was made from the installed version."""
    if not OUT.exists():
        return ""
    head = json.loads(OUT.read_text())
    return head["dated"] if head["source"] == "genai-prices " + version("genai-prices") else ""


def main() -> int:
    """Write the file, or compare it."""
    parser = argparse.ArgumentParser(description="Generate the price book.")
    parser.add_argument("--dated", default=known_date(), help="the day the package was released")
    parser.add_argument("--check", action="store_true", help="compare only")
    args = parser.parse_args()
    if not args.dated:
        parser.error("another version of genai-prices: say with --dated when it was released")
    text = build(date.fromisoformat(args.dated).isoformat())
    if args.check:
        same = OUT.exists() and OUT.read_text() == text
        print("prices.json is up to date" if same else "prices.json differs: run make prices")
        return 0 if same else 1
    OUT.write_text(text)
    print(f"{OUT.name}: {len(text):,} bytes, {len(package_providers)} providers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
