"""Which target comes first: by weight, and by the keys of a provider."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from tests.path.fakes import target
from tests.routing.test_routes import BOTH, NOW, routes

from headgate.routing.weights import drawn
from headgate.settings.upstreams import ConfigError
from headgate.values import Book, Target


def weighted(**weights: int) -> tuple[Target, ...]:
    """Targets with these weights: one group, then each without a weight."""
    return tuple(
        msgspec.structs.replace(target(name), weight=weight, group=0 if weight else index)
        for index, (name, weight) in enumerate(weights.items(), 1)
    )


def names(targets: tuple[Target, ...]) -> str:
    return "".join(each.host.name for each in targets)


def test_each_comes_first_by_its_share_and_the_rest_follow_in_order() -> None:
    targets = weighted(a=9, b=1, c=0)
    assert Counter(names(drawn(targets, each / 1000)) for each in range(1000)) == {"abc": 900, "bac": 100}


def test_what_comes_later_never_takes_calls_of_what_comes_first(tmp_path) -> None:
    toml = """
[[providers]]
name = "openai"
api_keys = ["sk-1", "sk-2"]
[[models]]
name = "a"
targets = [{provider = "openai", model = "x"}]
fallback = ["b"]
[[models]]
name = "b"
targets = [{provider = "deepseek", model = "p", weight = 1}, {provider = "openai", model = "q", weight = 1}]
"""
    found = routes(tmp_path, toml, BOTH).candidates("a", Book.REAL, NOW)
    orders = {tuple(each.model.name for each in drawn(found, n / 100)) for n in range(100)}
    assert orders == {("x", "x", "p", "q", "q"), ("x", "x", "q", "p", "q")}
    assert {drawn(found, n / 100)[0].host.api_key for n in range(100)} == {"sk-1", "sk-2"}


def test_without_weights_nothing_moves() -> None:
    assert drawn(weighted(a=0, b=0), 0.9) == weighted(a=0, b=0)


def test_the_end_of_chance_is_inside() -> None:
    assert names(drawn(weighted(a=1, b=2), 1 - 2**-53)) == "ba"


def test_the_keys_of_a_provider_share_its_calls_and_its_weight(tmp_path) -> None:
    toml = """
[[providers]]
name = "openai"
api_keys = ["sk-1", "env:SECOND", "sk-3"]
[[models]]
name = "a"
targets = [{provider = "openai", model = "x", weight = 1}, {provider = "deepseek", model = "y", weight = 1}]
"""
    table = routes(tmp_path, toml, BOTH | {"SECOND": "sk-2"})
    plain = table.candidates("gpt-4o", Book.REAL, NOW)
    assert [each.host.api_key for each in plain] == ["sk-1", "sk-2", "sk-3"]
    assert [dict(each.headers)["authorization"] for each in plain] == [
        "Bearer sk-1",
        "Bearer sk-2",
        "Bearer sk-3",
    ]
    assert len({each.weight for each in plain}) == 1
    shared = Counter[str]()
    for each in table.candidates("a", Book.REAL, NOW):
        shared[each.host.name] += each.weight
    assert shared["openai"] == shared["deepseek"]


@pytest.mark.parametrize(
    "keys", ['api_keys = ["env:NOBODY"]', 'api_key = "a"\napi_keys = ["b"]', f"api_keys = {['k'] * 11}"]
)
def test_keys_that_cannot_be_used_are_named(tmp_path, keys) -> None:
    with pytest.raises(ConfigError, match="api_keys"):
        routes(tmp_path, f'[[providers]]\nname = "openai"\n{keys}')
