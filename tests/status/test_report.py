"""How what each worker has seen adds up."""

from __future__ import annotations

import pytest

from headgate.vitals import (
    DayRow,
    Probing,
    ProviderReport,
    Report,
    Scene,
    Seen,
    Sign,
    TargetReport,
    Traffic,
    percent,
    report,
)

AT = 1_795_688_589_000_000  # 2026-11-26
TODAY = AT // 86_400_000_000


def only(found: Report) -> TargetReport:
    [provider] = found.providers
    [target] = provider.targets
    return target


def of(found: Report, name: str) -> ProviderReport:
    return next(each for each in found.providers if each.provider == name)


def test_what_two_workers_have_seen_is_added_up_and_the_worse_state_counts() -> None:
    one = Seen(
        (Sign("a", "m", state="out", until=AT + 9_000_000, times=2, retries=1, errors={"failed": 5}),),
        (Traffic("a", "m", 10, 1, 4, 1, first_byte_us=40_000, duration_us=80_000),),
        ("a",),
    )
    other = Seen(
        (Sign("a", "m", errors={"failed": 1, "refused": 2}, last="refused", last_at=AT),),
        (Traffic("a", "m", 30, 0, 4, 0, first_byte_us=8_000, duration_us=16_000),),
        ("a",),
    )
    found = report(Scene([one, other], [], AT))
    target = only(found)
    assert (found.workers, target.state, target.workers_out, target.times_out) == (2, "out", 1, 2)
    assert target.until == AT // 1_000_000 + 9
    assert (target.served, target.attempts, target.retries) == (40, 49, 1)
    assert target.errors == {"failed": 6, "refused": 2}
    assert (target.last_error, target.last_error_at) == ("refused", AT // 1_000_000)
    assert (target.recent_attempts, target.failure_rate) == (9, round(1 / 9, 4))
    assert (target.first_byte_ms, target.duration_ms) == (6, 12)
    assert (target.uptime, target.keys) == (None, ())


def test_one_key_that_is_out_impairs_its_target_and_two_take_it_out() -> None:
    good, bad = (
        Sign("a", "m", "1", served=8, recent_served=6, recent_failed=2, recent_first_byte_us=90_000),
        Sign("a", "m", "2", "out", errors={"denied": 5}, last="denied", last_at=AT),
    )
    found = report(Scene([Seen((good, bad), (), ("a",))], [], AT))
    assert only(found).state == "impaired"
    assert [(key.key, key.state, key.attempts, key.failure_rate, key.errors) for key in only(found).keys] == [
        ("1", "well", 8, 0.25, {}),
        ("2", "out", 5, None, {"denied": 5}),
    ]
    assert [key.first_byte_ms for key in only(found).keys] == [15, None]
    [provider] = found.providers
    assert provider.kind == "denied"
    assert "check the key" in provider.says
    worse = Sign("a", "m", "1", "panic", errors={"region": 1}, last="region", last_at=AT + 1)
    found = report(Scene([Seen((worse, bad), (), ("a",))], [], AT))
    assert (only(found).state, found.state) == ("panic", "panic")
    assert "does not serve the country" in found.providers[0].says


@pytest.mark.parametrize(
    ("failed", "served", "state"), [(2, 0, "well"), (3, 27, "impaired"), (3, 28, "well"), (9, 0, "impaired")]
)
def test_a_tenth_of_the_recent_attempts_is_often(failed: int, served: int, state: str) -> None:
    flow = Traffic("a", "m", recent_served=served, recent_failed=failed)
    assert only(report(Scene([Seen((), (flow,), ("a",))], [], AT))).state == state


def test_in_public_models_that_are_not_listed_are_one_and_budgets_are_not_told() -> None:
    signs = (
        Sign("a", "ft:acme:secret", errors={"failed": 1}),
        Sign("a", "hello my password is", errors={"failed": 2}),
        Sign("a", "m"),
    )
    seen = Seen(signs, (), ("a", "idle"), probing=Probing(60, "0.10/day", 3, 2, "their budget is used up"))
    days = [DayRow(TODAY, "a", "ft:acme:secret", False, 5, 1), DayRow(TODAY, "gone", "m", False, 5, 1)]
    found = report(Scene([seen], days, AT, lists=lambda _, model: model == "m"))
    assert [each.provider for each in found.providers] == ["a", "idle"]
    assert [(each.model, each.errors) for each in of(found, "a").targets] == [
        ("m", {}),
        ("other", {"failed": 3}),
    ]
    assert of(found, "idle").targets == ()
    assert found.probes is not None
    assert (found.probes.budget, found.probes.made) == ("", 3)
    everything = report(Scene([seen], days, AT))
    assert len(of(everything, "a").targets) == 3
    assert everything.probes is not None
    assert everything.probes.budget == "0.10/day"


def test_uptime_is_of_calls_and_probes_day_by_day() -> None:
    days = [
        DayRow(TODAY, "a", "m", False, 90, 5),
        DayRow(TODAY, "a", "m", True, 4, 1),
        DayRow(TODAY - 1, "a", "n", False, 100, 0),
    ]
    [provider] = report(Scene([], days, AT, serving=False)).providers
    assert [
        (day.date, day.served, day.failed, day.probes_served, day.probes_failed) for day in provider.days
    ] == [
        ("2026-11-25", 100, 0, 0, 0),
        ("2026-11-26", 90, 5, 4, 1),
    ]
    assert provider.uptime == 0.97
    assert [target.uptime for target in provider.targets] == [0.94, 1.0]


def test_per_cent_is_never_rounded_to_all_or_nothing() -> None:
    shares = (None, 0.0, 1.0, 0.999999, 0.000001, 0.9987)
    assert [percent(share) for share in shares] == ["", "0%", "100%", "99.99%", "0.01%", "99.87%"]
