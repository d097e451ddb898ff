"""`headgate route`: where a described call would go."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cli.conftest import Run

SETTINGS = """
[[providers]]
name = "near"
base_url = "http://127.0.0.1:1/v1"
api_key = "k"
models = []
[[providers]]
name = "far"
base_url = "http://127.0.0.1:2/v1"
region = "eu-fr"
api_key = "k"
models = []
[[models]]
name = "smart"
targets = [
  { provider = "near", model = "small", when = { max_input_tokens = 8000, keys = ["shop*"] } },
  { provider = "far", model = "a", weight = 3, when = { lacks = ["images"] } },
  { provider = "near", model = "b", weight = 1, when = { lacks = ["images"] } },
]
"""


SETTINGS += """
[[models]]
name = "cheap"
choice = "least_cost"
targets = [{ provider = "near", model = "small" }, { provider = "far", model = "a" }, { provider = "near", model = "b" }]
[[models]]
name = "fast"
choice = "least_latency"
targets = [{ provider = "far", model = "a" }, { provider = "near", model = "b" }]
[[models]]
name = "tried"
targets = [{ provider = "far", model = "a" }]
canary = { target = { provider = "near", model = "b" }, share_percent = 20, sticky_by = "metadata.team" }
shadow = { target = { provider = "near", model = "small" }, share_percent = 5, budget = "1/day" }
[[prices.rows]]
model = "a"
input = 2
output = 1
[[prices.rows]]
model = "b"
input = 1
output = 9
"""


def test_a_described_call_shows_its_targets_and_why_not_the_others(
    run: Run, say: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "headgate.toml").write_text(SETTINGS)
    here = ("route", "smart", "--config", "headgate.toml")
    rows = say(*here, "--input-tokens", "9k")["targets"]
    assert [(row["model"], row["asked"], row["share"], row["note"]) for row in rows] == [
        ("a", 1, 75.0, ""),
        ("b", 2, 25.0, ""),
        ("small", 0, 0.0, "for keys shop*"),
    ]
    printed = run(*here, "--key", "shop-1", "--with", "images").output
    assert "for calls without images" in printed
    assert "never" in printed
    refused = run(*here, "--with", "images")
    assert refused.exit_code == 1
    assert "No target of the model `smart` is for this call" in refused.output
    rows = say("route", "cheap", "--config", "headgate.toml", "--input-tokens", "1m", "--output-tokens", "0")
    assert [(row["model"], row["share"], row["cost"]) for row in rows["targets"]] == [
        ("b", 100.0, 1_000_000_000),
        ("a", 0.0, 2_000_000_000),
        ("small", 0.0, None),
    ]
    placed = say(*here, "--input-tokens", "9k", "--demand", "region=eu")
    assert [(row["model"], row["asked"], row["note"]) for row in placed["targets"]] == [
        ("a", 1, ""),
        ("b", 0, "not in region eu"),
        ("small", 0, "not in region eu"),
    ]
    assert "data zero_retention" in run(*here, "--demand", "data=zero_retention").output
    assert "continent=eu" in run(*here, "--demand", "continent=eu").output
    tried = say("route", "tried", "--config", "headgate.toml")["targets"]
    assert [(row["model"], row["asked"], row["share"], row["note"]) for row in tried] == [
        ("b", 1, 20.0, "canary by metadata.team"),
        ("a", 1, 80.0, ""),
        ("small", 0, 0.0, "shadow of 5 % of the calls, within 1/day"),
    ]
    kept_out = say("route", "tried", "--config", "headgate.toml", "--demand", "region=eu")["targets"]
    assert [(row["model"], row["asked"], row["note"]) for row in kept_out] == [
        ("b", 0, "canary by metadata.team, not in region eu"),
        ("a", 1, ""),
        ("small", 0, "shadow of 5 % of the calls, within 1/day, not in region eu"),
    ]
    assert "while fastest" in run("route", "fast", "--config", "headgate.toml").output
    assert run("route", "nothing-like-it", "--config", "headgate.toml").exit_code == 1


def test_it_says_when_two_targets_are_asked_at_once(
    run: Run, say: Callable[..., Any], tmp_path: Path
) -> None:
    two = '{ provider = "near", model = "a" }, { provider = "far", model = "b" }'
    models = "".join(
        f'[[models]]\nname = "{name}"\ntargets = [{targets}]\nhedge = {{ {terms} }}\n'
        for name, targets, terms in (
            ("voice", two, 'after_ms = 800, most_percent = 5, keys = ["voice-*"]'),
            ("lately", two, 'after_ms = "p95"'),
            ("alone", two.replace('"b"', '"b", when = { keys = ["vip"] }'), "after_ms = 800"),
        )
    )
    (tmp_path / "headgate.toml").write_text(SETTINGS + models)
    here = ("--config", "headgate.toml")

    def told(*words: str) -> str:
        return run("route", *words, *here).output.splitlines()[-1]

    assert say("route", "voice", *here)["hedge"] == {
        "after_ms": 800,
        "most_percent": 5.0,
        "keys": ["voice-*"],
    }
    assert say("route", "cheap", *here)["hedge"] is None
    assert told("voice", "--key", "voice-1") == (
        "hedge: the next target is asked too after 800 ms, in at most 5 % of the calls."
    )
    assert told("voice", "--key", "shop") == "hedge: never for this key, but for voice-*."
    assert "95 in 100" in told("lately")
    assert told("alone") == "hedge: never, since there is no second target."
    assert "hedge" not in run("route", "cheap", *here).output
