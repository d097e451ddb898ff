"""What is measured: one function per lane, each returning named figures."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import machine
from load import EVENTS_PER_STREAM, Load
from servers import Unusable
from session import DIRECT, HEADGATE, NGINX, is_quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from session import Plan, Round, Sample, Session

BIG_PROMPT_BYTES = 137_000
PACED_GAP_MS = 20
BAD_KEY = "sk-hg-live-" + "0" * 43 + "000000"


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value: the median over rounds and its quartiles."""

    value: float
    low: float
    high: float
    count: int
    noisy: bool = False


Figures = dict[str, Figure]


def figure(values: Sequence[float], *, noisy: bool = False) -> Figure:
    """Summarise the rounds."""
    if len(values) < 2:
        return Figure(values[0], values[0], values[0], len(values), noisy)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(middle, low, high, len(values), noisy)


def collect(rounds: Sequence[Round], per_target: Mapping[str, Callable[[Sample], float]]) -> Figures:
    """Name each figure TARGET.WHAT."""
    figures: Figures = {}
    noisy = not is_quiet(rounds)
    for name in (DIRECT, NGINX, HEADGATE):
        samples = [done[name] for done in rounds if name in done]
        for what, read in per_target.items():
            if samples:
                figures[f"{name}.{what}"] = figure([read(s) for s in samples], noisy=noisy)
    return figures


def paired(rounds: Sequence[Round], a: str, b: str, read: Callable[[Sample, Sample], float]) -> list[float]:
    """Compare two targets round by round."""
    return [read(done[a], done[b]) for done in rounds if a in done and b in done]


def _ratio(a: Sample, b: Sample) -> float:
    return a.cpu_us / b.cpu_us if b.cpu_us else 0.0


def json_calls(session: Session) -> Figures:
    """Governed JSON calls, closed loop, 8 connections: the headline."""
    plan = session.plan
    session.warm_up(Load(plan.seconds(2)))
    rounds = session.rounds(Load(plan.seconds(4)), plan.count(7))
    figures = collect(
        rounds,
        {
            "cpu_us": lambda s: s.cpu_us,
            "serving_cpu_us": lambda s: s.served_cpu_us,
            "rps": lambda s: float(s.outcome.raw["rps"]),
        },
    )
    ratios = paired(rounds, HEADGATE, NGINX, _ratio)
    if ratios:
        figures["ratio"] = figure(ratios, noisy=not is_quiet(rounds))
    speeds = [float(done[DIRECT].outcome.raw["rps"]) for done in rounds if DIRECT in done]
    if len(speeds) > 1 and abs(speeds[-1] - speeds[0]) > 0.05 * speeds[0]:
        session.note(
            f"direct went from {speeds[0]:.0f} to {speeds[-1]:.0f} requests/s during the JSON lane: "
            "this session is not quiet enough for latencies"
        )
    return figures


def _open_loop(session: Session, rate: int, seconds: float, rounds_wanted: int) -> Figures:
    plan = session.plan
    load = Load(plan.seconds(seconds), conns=64, rate=rate, warm=plan.seconds(0.5))
    rounds = session.rounds(load, plan.count(rounds_wanted))
    figures = collect(
        rounds,
        {"p50_us": lambda s: s.outcome.us("lat", "p50"), "p99_us": lambda s: s.outcome.us("lat", "p99")},
    )
    return figures | _added(rounds, "lat", "")


def _added(rounds: Sequence[Round], series: str, label: str) -> Figures:
    """Name what each proxy adds to a latency of the direct call in the same round."""
    figures: Figures = {}
    for name in (NGINX, HEADGATE):
        for q in ("p50", "p99"):

            def difference(a: Sample, b: Sample, q: str = q) -> float:
                return a.outcome.us(series, q) - b.outcome.us(series, q)

            added = paired(rounds, name, DIRECT, difference)
            if added:
                noisy = not is_quiet(rounds)
                figures[f"{name}.added_{label}{q}_us"] = figure(added, noisy=noisy)
    return figures


def open_100(session: Session) -> Figures:
    """Latency at a constant 100 requests/s, from the intended time."""
    return _open_loop(session, 100, 8, 3)


def open_1000(session: Session) -> Figures:
    """Latency at a constant 1,000 requests/s, from the intended time."""
    return _open_loop(session, 1000, 4, 5)


def burst(session: Session) -> Figures:
    """Streams whose events come at once, closed loop, 8 connections."""
    plan = session.plan
    session.warm_up(Load(plan.seconds(2), stream=True))
    rounds = session.rounds(Load(plan.seconds(3), stream=True), plan.count(5))
    return collect(
        rounds,
        {
            "event_us": lambda s: s.event_us,
            "stream_us": lambda s: s.cpu_us,
            "streams_per_s": lambda s: float(s.outcome.raw["rps"]),
        },
    )


def paced(session: Session) -> Figures:
    """Streams with 20 ms between the events, 50 begun per second."""
    plan = session.plan
    load = Load(plan.seconds(5), conns=100, rate=50, warm=plan.seconds(0.5), stream=True, gap_ms=PACED_GAP_MS)
    rounds = session.rounds(load, plan.count(3))
    figures = collect(
        rounds,
        {
            "ttft_p50_us": lambda s: s.outcome.us("ttft", "p50"),
            "ttft_p99_us": lambda s: s.outcome.us("ttft", "p99"),
            "event_us": lambda s: s.event_us,
        },
    )
    return figures | _added(rounds, "ttft", "ttft_")


def many_streams(session: Session) -> Figures:
    """1,000 streams at once with 100 ms between the events, the gateway freshly started."""
    plan = session.plan
    _restart(session)
    lasts_s = plan.slow_gap_ms * (EVENTS_PER_STREAM - 3) / 1000
    load = Load(
        lasts_s + plan.seconds(6),
        conns=plan.streams + plan.streams // 8,
        rate=plan.streams / lasts_s * 1.02,  # so that a few more than wanted overlap
        stream=True,
        gap_ms=plan.slow_gap_ms,
    )
    figures: Figures = {}
    for name in (DIRECT, NGINX, HEADGATE):
        if name not in session.targets:
            continue
        peak_mb = [0.0]
        pid = session.targets[name].server.pid

        def sample(peak_mb: list[float] = peak_mb, pid: int = pid) -> None:
            peak_mb[0] = max(peak_mb[0], machine.tree_rss_mb(pid))

        done = session.measure(name, load, sample)
        if done is not None:
            figures |= _streams_figures(name, done, peak_mb[0], plan)
            _check_overlap(session, name, done)
    return figures


def _restart(session: Session) -> None:
    target = session.targets.get(HEADGATE)
    if target is not None:
        session.stop_headgate()
        session.start_headgate(target.key)


def _streams_figures(name: str, done: Sample, peak_mb: float, plan: Plan) -> Figures:
    noisy = not done.window.quiet
    values = {
        "late": float(done.outcome.raw["late"]),
        "lateness_p50_us": done.outcome.us("lateness", "p50"),
        "lateness_p99_us": done.outcome.us("lateness", "p99"),
        "lateness_max_us": done.outcome.us("lateness", "max"),
        "at_once": float(done.outcome.raw["peak"]),
        "rss_mb": peak_mb,
        "event_us": done.event_us,
        "core_share_pct": done.event_us * plan.streams * (1000 / plan.slow_gap_ms) / 1e4,
    }
    return {f"{name}.{what}": figure([value], noisy=noisy) for what, value in values.items()}


def _check_overlap(session: Session, name: str, done: Sample) -> None:
    peak = int(done.outcome.raw["peak"])
    if peak < session.plan.streams:
        session.note(f"{name}: only {peak} streams overlapped, {session.plan.streams} were wanted")


def large(session: Session) -> Figures:
    """JSON calls with a prompt of 137 KB, closed loop, 8 connections."""
    plan = session.plan
    load = Load(plan.seconds(3), extra_bytes=BIG_PROMPT_BYTES)
    session.warm_up(replace(load, seconds=plan.seconds(2)))
    rounds = session.rounds(load, plan.count(5))
    return collect(rounds, {"cpu_us": lambda s: s.cpu_us, "rps": lambda s: float(s.outcome.raw["rps"])})


def refused(session: Session) -> Figures:
    """Calls with a key that nobody made, beside served ones in the same rounds."""
    plan = session.plan
    target = session.targets.get(HEADGATE)
    if target is None:
        return {}
    served, rejected = [], []
    for _ in range(plan.count(3)):
        done = session.measure(HEADGATE, Load(plan.seconds(2)))
        session.targets[HEADGATE] = replace(target, key=BAD_KEY)
        bad = session.measure(HEADGATE, Load(plan.seconds(2), status=401))
        session.targets[HEADGATE] = target
        if done is None or bad is None:
            return {}
        served.append(done)
        rejected.append(bad)
    noisy = not all(s.window.quiet for s in served + rejected)
    ratios = [b.cpu_us / s.cpu_us for s, b in zip(served, rejected, strict=True)]
    return {
        "headgate.cpu_us": figure([s.cpu_us for s in rejected], noisy=noisy),
        "served_ratio": figure(ratios, noisy=noisy),
    }


def fallback(session: Session) -> Figures:
    """Calls whose first target answers 503, beside calls that need no second one, in the same rounds."""
    plan = session.plan
    if HEADGATE not in session.targets:
        return {}
    plain, failing = [], []
    for _ in range(plan.count(3)):
        straight = session.measure(HEADGATE, Load(plan.seconds(2)))
        second = session.measure(HEADGATE, Load(plan.seconds(2), model="falls-back"))
        if straight is None or second is None:
            return {}
        plain.append(straight)
        failing.append(second)
    noisy = not all(s.window.quiet for s in plain + failing)
    added = [b.cpu_us - a.cpu_us for a, b in zip(plain, failing, strict=True)]
    return {
        "headgate.cpu_us": figure([s.cpu_us for s in failing], noisy=noisy),
        "headgate.added_cpu_us": figure(added, noisy=noisy),
    }


def start_up(session: Session) -> Figures:
    """Time to the first 200 on /readyz with an empty store, memory at rest, and time to say the version."""
    headgate = session.headgate
    if headgate is None:
        return {}
    session.stop_headgate()
    times: list[float] = []
    sizes: list[float] = []
    for _ in range(session.plan.cold_starts):
        server, took = headgate.start()
        times.append(took)
        time.sleep(session.plan.rest_s if not sizes else 0)
        sizes.append(machine.tree_rss_mb(server.pid))
        session.ended(server)
    said = [headgate.say_version() for _ in times]
    return {
        "headgate.seconds": figure(times),
        "headgate.idle_mb": figure(sizes[:1]),
        "headgate.version_seconds": figure(said),
    }


LANES: Mapping[str, Callable[[Session], Figures]] = {
    "json": json_calls,
    "refused": refused,
    "fallback": fallback,
    "large": large,
    "burst": burst,
    "paced": paced,
    "open100": open_100,
    "open1000": open_1000,
    "streams": many_streams,
}


def run_lane(session: Session, name: str, lane: Callable[[Session], Figures]) -> Figures:
    """Run one lane; name its figures LANE.TARGET.WHAT."""
    print(f"{name}: {(lane.__doc__ or '').splitlines()[0]}", flush=True)
    began = time.monotonic()
    try:
        figures = lane(session)
    except Unusable as failure:
        session.fail(f"{name}: {failure}")
        figures = {}
    print(f"  took {time.monotonic() - began:.0f} s", flush=True)
    return {f"{name}.{what}": value for what, value in figures.items()}
