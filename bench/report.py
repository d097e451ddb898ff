"""Print the figures and hold them against the goals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from session import DIRECT, HEADGATE, NGINX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lanes import Figure

MISSING = "-"


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on one figure; `stretch` is what we would like."""

    text: str
    figure: str
    limit: float
    unit: str
    stretch: float | None = None
    strict: bool = False

    def judge(self, figures: Mapping[str, Figure]) -> str:
        """Say reached, stretch, missed or not measured."""
        found = figures.get(self.figure)
        if found is None:
            return "not measured"
        if self.stretch is not None and found.value <= self.stretch:
            return "stretch"
        within = found.value < self.limit if self.strict else found.value <= self.limit
        return "reached" if within else "MISSED"


GOALS = (
    Goal("governed JSON call, CPU", "json.headgate.cpu_us", 150, "us", stretch=110),
    Goal("  the same against nginx", "json.ratio", 4, "x", stretch=3),
    Goal("stream event in a burst, CPU", "burst.headgate.event_us", 12, "us", stretch=9),
    Goal("1,000 paced streams: late events", "streams.headgate.late", 0, ""),
    Goal("  resident memory meanwhile", "streams.headgate.rss_mb", 60, "MB", stretch=45),
    Goal("idle memory", "start.headgate.idle_mb", 45, "MB", stretch=32),
    Goal("start to ready, empty store", "start.headgate.seconds", 0.5, "s", stretch=0.25),
    Goal("`headgate --version`", "start.headgate.version_seconds", 0.15, "s"),
    Goal("start to ready, 100,000 records", "journal.headgate.start_seconds", 3, "s"),
    Goal("137 KB prompt, CPU", "large.headgate.cpu_us", 500, "us"),
    Goal("draining the journal, CPU per call", "journal.headgate.drain_us", 25, "us"),
    Goal("refused call against a served one", "refused.served_ratio", 1, "x", strict=True),
)

# text, lane, figure of the three candidates, decimals
ROWS = (
    ("JSON, CPU us per request", "json", "cpu_us", 1),
    ("  of it before the last answer", "json", "serving_cpu_us", 1),
    ("JSON, requests per second", "json", "rps", 0),
    ("refused (bad key), CPU us", "refused", "cpu_us", 1),
    ("fallback after a 503, CPU us", "fallback", "cpu_us", 1),
    ("  added to a call without", "fallback", "added_cpu_us", 1),
    ("137 KB prompt, CPU us", "large", "cpu_us", 0),
    ("137 KB prompt, requests per second", "large", "rps", 0),
    ("burst, CPU us per event", "burst", "event_us", 2),
    ("burst, CPU us per stream", "burst", "stream_us", 0),
    ("burst, streams per second", "burst", "streams_per_s", 0),
    ("paced 20 ms, CPU us per event", "paced", "event_us", 1),
    ("paced 20 ms, TTFT p50 us", "paced", "ttft_p50_us", 0),
    ("  added to direct", "paced", "added_ttft_p50_us", 0),
    ("paced 20 ms, TTFT p99 us", "paced", "ttft_p99_us", 0),
    ("  added to direct", "paced", "added_ttft_p99_us", 0),
    ("100/s, p50 us", "open100", "p50_us", 0),
    ("  added to direct", "open100", "added_p50_us", 0),
    ("100/s, p99 us", "open100", "p99_us", 0),
    ("  added to direct", "open100", "added_p99_us", 0),
    ("1,000/s, p50 us", "open1000", "p50_us", 0),
    ("  added to direct", "open1000", "added_p50_us", 0),
    ("1,000/s, p99 us", "open1000", "p99_us", 0),
    ("  added to direct", "open1000", "added_p99_us", 0),
    ("many streams: at once", "streams", "at_once", 0),
    ("  late events (> 50 ms)", "streams", "late", 0),
    ("  lateness p50 us", "streams", "lateness_p50_us", 0),
    ("  lateness p99 us", "streams", "lateness_p99_us", 0),
    ("  lateness worst us", "streams", "lateness_max_us", 0),
    ("  CPU us per event", "streams", "event_us", 1),
    ("  share of a core, %", "streams", "core_share_pct", 1),
    ("  resident memory, MB", "streams", "rss_mb", 1),
    ("idle memory, MB", "start", "idle_mb", 1),
    ("start to ready, s", "start", "seconds", 3),
    ("drain, CPU us per call", "journal", "drain_us", 1),
    ("  records drained", "journal", "drained_records", 0),
    ("start with a full journal, s", "journal", "start_seconds", 3),
    ("  records found", "journal", "start_records", 0),
    ("  until drained, s", "journal", "caught_up_seconds", 2),
)


def _cell(found: Figure | None, decimals: int) -> str:
    if found is None:
        return MISSING
    text = f"{found.value:,.{decimals}f}"
    if found.count > 1:
        text += f" [{found.low:,.{decimals}f}..{found.high:,.{decimals}f}]"
    return text + ("*" if found.noisy else "")


def figures_table(figures: Mapping[str, Figure]) -> Iterator[str]:
    """Yield the lines of the table of all figures that were measured."""
    yield f"{'':36}{'direct (mock)':>30}{'nginx':>30}{'headgate':>30}"
    for text, lane, what, decimals in ROWS:
        found = [figures.get(f"{lane}.{name}.{what}") for name in (DIRECT, NGINX, HEADGATE)]
        if any(found):
            yield f"{text:36}" + "".join(f"{_cell(cell, decimals):>30}" for cell in found)
    yield ""
    yield "median [quartiles over the rounds]; * a window failed the noise gate"
    yield "direct: CPU is the mock's own, on the generator's core"


def goals_table(figures: Mapping[str, Figure]) -> Iterator[str]:
    """Yield the lines of the table of goals."""
    yield f"{'goal':38}{'limit':>12}{'stretch':>10}{'measured':>12}  verdict"
    for goal in GOALS:
        found = figures.get(goal.figure)
        limit = f"{'<' if goal.strict else '<='} {goal.limit:g} {goal.unit}".strip()
        stretch = MISSING if goal.stretch is None else f"{goal.stretch:g}"
        value = MISSING if found is None else f"{found.value:.4g}{'*' if found.noisy else ''}"
        yield f"{goal.text:38}{limit:>12}{stretch:>10}{value:>12}  {goal.judge(figures)}"


def verdicts(figures: Mapping[str, Figure]) -> list[dict[str, object]]:
    """Return the goals with their verdicts, for a file."""
    return [
        {
            "goal": goal.text.strip(),
            "figure": goal.figure,
            "limit": goal.limit,
            "stretch": goal.stretch,
            "value": figures[goal.figure].value if goal.figure in figures else None,
            "verdict": goal.judge(figures),
        }
        for goal in GOALS
    ]
