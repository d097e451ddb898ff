"""What `headgate doctor` says of batches whose lines are calls at their provider's batch API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from headgate.cli.root import cli

ROW = '[[providers]]\nname = "volcengine"\napi_key = "k"\n'
PASSED = 'batch = "provider"\n'
NAMED = 'batch_models = { "doubao-a" = "ep-bi-1" }\n'
ROUTE = '[[models]]\nname = "m"\ntargets = [{{ provider = "volcengine", model = "{}"{} }}]\n'


def told(folder: Path, said: str) -> list[dict[str, Any]]:
    (folder / "headgate.toml").write_text(said)
    asked = [
        "doctor",
        "--offline",
        "--json",
        "--config",
        str(folder / "headgate.toml"),
        "--data",
        str(folder / "d"),
    ]
    found = json.loads(CliRunner().invoke(cli, asked).output)["findings"]
    return [each for each in found if each["about"] == "batches of volcengine"]


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (ROW + PASSED + NAMED, "doubao-a is asked for as ep-bi-1"),
        (ROW + PASSED + ROUTE.format("ep-bi-2", ""), "ep-bi-2 is asked for as ep-bi-2"),
        (ROW + NAMED + ROUTE.format("doubao-a", ', batch = "provider"'), "doubao-a is asked for as ep-bi-1"),
    ],
)
def test_models_with_an_endpoint_for_batches(tmp_path, said, says):
    [seen] = told(tmp_path, said)
    assert (seen["state"], seen["says"]) == ("ok", says)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (ROW + PASSED, "no model has an endpoint for batches"),
        (ROW + PASSED + ROUTE.format("doubao-b", ""), "doubao-b is asked for as doubao-b"),
        (ROW + PASSED + NAMED + ROUTE.format("ep-3", ""), "ep-3 is asked for as ep-3"),
    ],
)
def test_models_without_one(tmp_path, said, says):
    [seen] = told(tmp_path, said)
    assert seen["state"] == "warning"
    assert says in seen["says"]
    assert "batch_models" in seen["advice"]


def test_nothing_is_said_where_our_engine_runs_batches(tmp_path):
    assert told(tmp_path, ROW + NAMED + ROUTE.format("doubao-a", "")) == []
