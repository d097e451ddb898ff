"""Regions and data policies: who demands them, and which targets have them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.path.fakes import target

from headgate.errors import CallerError, NoTarget
from headgate.routing.demands import DemandSettings, lacking, meeting, read_demand
from headgate.values import Demand, Principal, Target

CALLER = Principal(key=1, project=1, account=1, name="shop", project_id="proj_1", tier="free")


def placed(region: str, *data: str, **more: Any) -> Target:
    return msgspec.structs.replace(target(region or "nowhere"), region=region, data=data, **more)


EU, DE, US, NOWHERE = placed("eu", "no_training"), placed("eu-de"), placed("us", "no_training"), placed("")


@pytest.mark.parametrize(
    ("demand", "fits"),
    [
        (Demand(regions=("eu",)), [EU, DE]),
        (Demand(regions=("eu-de",)), [DE]),
        (Demand(regions=("e",)), []),
        (Demand(regions=("us", "eu-de")), [DE, US]),
        (Demand(data=("no_training",)), [EU, US]),
        (Demand(data=("no_training", "zero_retention")), []),
        (Demand(regions=("eu",), data=("no_training",)), [EU]),
    ],
)
def test_a_target_is_in_one_of_the_regions_and_has_every_policy(demand: Demand, fits: list[Target]) -> None:
    assert [each for each in (EU, DE, US, NOWHERE) if not lacking(each, [demand])] == fits


def test_every_demand_holds_and_the_simulator_is_everywhere() -> None:
    both = (Demand(regions=("eu",)), Demand(data=("no_training",)))
    assert lacking(DE, both) == "without no_training"
    assert lacking(US, both) == "not in region eu"
    assert lacking(placed("", simulated=True), both) == ""
    assert meeting((US, EU, DE), both, "m") == (EU,)


def test_a_demand_that_nobody_meets_is_named_with_who_makes_it() -> None:
    demands = (Demand(("eu", "ch"), by="the settings"), read_demand("data=no_training,data=zero_retention"))
    with pytest.raises(NoTarget) as caught:
        meeting((US, DE), demands, "gpt-4o")
    assert (caught.value.http_status, caught.value.code) == (400, "no_target_for_demand")
    assert (
        "`gpt-4o` has what this call demands: region eu or ch (the settings); "
        "data no_training and zero_retention (the header x-headgate-demand)."
    ) in caught.value.message


def test_the_header_is_read_and_what_cannot_be_is_named() -> None:
    found = read_demand("region=eu, region=ch,data=no_training")
    assert (found.regions, found.data) == (("eu", "ch"), ("no_training",))
    for wrong in ("", "region", "region=", "region=EU", "zone=eu", "region=eu;data=x", "data=" + "x" * 65):
        with pytest.raises(CallerError, match="x-headgate-demand") as caught:
            read_demand(wrong)
        assert caught.value.code == "invalid_value"
    with pytest.raises(CallerError, match="'EU' is not written in small letters"):
        read_demand("region=EU")


@pytest.mark.parametrize(
    ("whose", "meets"),
    [
        ({}, True),
        ({"keys": ("sh*",)}, True),
        ({"keys": ("other",)}, False),
        ({"projects": ("proj_1",), "tiers": ("free",)}, True),
        ({"projects": ("proj_2",)}, False),
        ({"keys": ("shop",), "tiers": ("tier-1",)}, False),
    ],
)
def test_the_settings_say_whose_calls_demand_it(whose: dict[str, Any], meets: bool) -> None:
    assert DemandSettings(**whose, regions=("eu",)).meets(CALLER) is meets


def test_settings_that_demand_nothing_or_are_misspelt_are_refused() -> None:
    assert "nothing is demanded" in DemandSettings(keys=("a",)).wrong()
    assert "'EU'" in DemandSettings(regions=("EU",)).wrong()
    assert DemandSettings(data=("no_training",)).wrong() == ""
