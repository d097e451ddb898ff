"""A mistake in a settings file is told with its line, whatever finds it, and never with a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.config import ServeOptions, load
from headgate.settings.places import Lines
from headgate.settings.upstreams import ConfigError

TEXT = '''\
# settings
[server]
port = 8787
workers = 2   # [not a table]
trusted_proxies = [
  "10.0.0.0/8",  # ]
  "192.168.0.0/16",
]

[budget]
cap = "20/month"

[aliases]
"gpt-3.5" = "smart"
fast = "smart"

[[providers]]
name = "openai"
api_key = "k"

[[providers]]
name = "corp"
base_url = "http://corp/v1"
organization = """
[server]
port = 1
"""
api_key = "k"

[[models]]
name = "smart"
targets = [
  { provider = "openai", model = "gpt-4o" },
  { provider = "corp", model = "c", max_concurrent = 4 },
]
[models.deadlines]
total_s = 60

[[models]]
name = "other"
targets = [{ provider = "corp", model = "d" }]
deadlines.total_s = 60

[[keys]]
name = "legacy"
parameters = "lenient"
[keys.deadlines]
connect_s = 3

[[tiers]]
name = "own"
days = 3

[storage]
data = "./data"

[retries]
attempts = 3
'''


def line_of(what: str, nth: int = 1) -> int:
    rows = [number for number, row in enumerate(TEXT.split("\n"), 1) if row.startswith(what)]
    return rows[nth - 1]


def refused(tmp_path: Path, text: str, **options: object) -> str:
    path = tmp_path / "headgate.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(ServeOptions(config=str(path), env_file="", **options), environment={})  # type: ignore[arg-type]
    return str(caught.value).replace(str(path), "FILE")


# What is changed, the line that is told (as the begin of its text, and which of these), and what is said.
MISTAKES: dict[str, tuple[str, str, str, int, str]] = {
    "a number of a table": ("port = 8787", "port = 99999", "port", 1, "port 99999 is not between"),
    "two settings of a table": ("workers = 2 ", "workers = 99 ", "workers", 1, "workers 99 is not between"),
    "a value of a list": ('"10.0.0.0/8"', '"10.0.0.0/99"', "trusted_proxies", 1, "server.trusted_proxies: "),
    "the cap": ("20/month", "20/fortnight", "cap", 1, "budget.cap: "),
    "a row, by a key of it": ('http://corp/v1"', 'ftp://corp/v1"', "base_url", 1, "provider 'corp': "),
    "a row, by none": ('name = "corp"', 'name = "openai"', "name", 2, "provider 'openai' stands twice"),
    "a target": ('"openai", model', '"nobody", model', "targets", 1, "model 'smart': "),
    "a table within a row": (
        "total_s = 60\n\n[[models]]",
        "total_s = 0\n\n[[models]]",
        "total_s",
        1,
        "model 'smart'",
    ),
    "a dotted key": ("deadlines.total_s = 60", "deadlines.total_s = 0", "deadlines.", 1, "model 'other'"),
    "a key's rules": ("connect_s = 3", "connect_s = -3", "connect_s", 1, "keys 'legacy'"),
    "a tier": ("days = 3", "days = -3", "days", 1, "tier 'own': "),
    "bounds": ("max_concurrent = 4", "max_concurrent = 1", "targets", 1, "target corp/c: "),
    "terms": ("attempts = 3", "attempts = 99", "attempts", 1, "retries: attempts"),
    "an alias": ('fast = "smart"', 'fast = "fast"', "fast", 1, "aliases go in a circle"),
    "a wrong type": ("days = 3", 'days = "3"', "days", 1, "Expected `int`, got `str`"),
    "an unknown setting": ("days = 3", "dais = 3", "days", 1, "unknown field `dais`"),
    "an unknown table": ("[retries]", "[retry]", "[retries]", 1, "unknown field `retry`"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_the_line_of_a_mistake_is_told(case: str, tmp_path: Path) -> None:
    right, wrong, told, nth, said = MISTAKES[case]
    assert TEXT.count(right) >= 1
    message = refused(tmp_path, TEXT.replace(right, wrong, 1))
    assert message.startswith(f"FILE, line {line_of(told, nth)}: "), message
    assert said in message


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('[[providers]]\nname = "fireworks"\nbatch_acount = "acme"', "Did you mean `batch_account`? See"),
        ("[batch]\nprice_pct = 50", "Did you mean `price_percent`? See"),
        ("[[batch.models]]\nmodel = 'm'\nconcurency = 1", "Did you mean `concurrency`? See"),
        ("[server]\nbatch_account = 'x'", "`$.server`. See"),
    ],
)
def test_a_misspelt_setting_is_told_what_is_near(row: str, said: str, tmp_path: Path) -> None:
    assert said in refused(tmp_path, row)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('[storage]\nsync = "always"', "It may be `before-send`, `group`. See"),
        (
            '[[models]]\nname = "m"\ntargets = [{ provider = "a", model = "x", when = { has = ["image"] } }]',
            "It may be `audio`, `files`, `images`, `schema`, `tools`. See",
        ),
        (
            '[[models]]\nname = "m"\ntargets = []\nhedge = { after_ms = "p99" }',
            "It may be a whole number, `p95`. See",
        ),
    ],
)
def test_a_value_that_is_none_of_a_few_is_told_them(row: str, said: str, tmp_path: Path) -> None:
    assert said in refused(tmp_path, row)


def test_the_file_as_it_is_serves(tmp_path: Path) -> None:
    path = tmp_path / "headgate.toml"
    path.write_text(TEXT)
    assert len(load(ServeOptions(config=str(path), env_file=""), environment={}).routes) == 2


@pytest.mark.parametrize("options", [{"port": 99999}, {"workers": 99}, {"aliases": ("wrong",)}])
def test_what_a_flag_says_wrong_is_no_line_of_the_file(options: dict[str, object], tmp_path: Path) -> None:
    assert "line" not in refused(tmp_path, TEXT, **options)


def test_what_is_not_in_the_file_has_no_line(tmp_path: Path) -> None:
    path = tmp_path / "headgate.toml"
    path.write_text("[server]\nport = 1\n")
    with pytest.raises(ConfigError) as caught:
        load(ServeOptions(config=str(path), env_file=""), environment={"HTTPS_PROXY": "gopher://h"})
    assert "line" not in str(caught.value)


def test_lines_are_those_of_toml_whatever_stands_in_values() -> None:
    rows = ["a = '''", "[x]", "'''", "[t.'q.r']", '"k e" = [', "  1, # ]", "  { b = '[' },", "]", "c.d = 1"]
    rows += ["[[r]]", "[r.s]", "e = 1", "[[r]]", "e = 2"]
    lines = Lines("\n".join(rows))
    found = {
        ("a",): 1,
        ("x",): 0,
        ("t",): 4,
        ("t", "q.r"): 4,
        ("t", "q.r", "k e"): 5,
        ("t", "q.r", "c", "d"): 9,
        ("r", 0): 10,
        ("r", 0, "s", "e"): 12,
        ("r", 1): 13,
        ("r", 1, "e"): 14,
        ("r", 1, "not there"): 13,
    }
    assert {place: lines.find(place) for place in found} == found
