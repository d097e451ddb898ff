"""What `headgate doctor` says of the buckets of batches, against the stores that the batches of tests go through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.batch_bucket_wires import ClaudeJobs, InvocationJobs, PredictionJobs
from tests.batch_wires import Wire

from headgate.cli.root import cli

ROW = '[[providers]]\nname = "there"\nkind = "{kind}"\nbase_url = "{base}"\n{credential}\n{more}\n'


def told(folder: Path, wire: Wire, old: str = "", new: str = "", row: str = ROW) -> dict[str, Any]:
    said = row.format(kind=wire.kind, base=wire.base, credential=wire.credential, more=wire.more)
    assert old in said
    (folder / "headgate.toml").write_text(said.replace(old, new) if old else said)
    asked = ["doctor", "--json", "--config", str(folder / "headgate.toml"), "--data", str(folder / "data")]
    found = json.loads(CliRunner().invoke(cli, asked).output)["findings"]
    [seen] = [each for each in found if each["about"].startswith("batches of ")]
    return seen


@pytest.mark.parametrize("made", [InvocationJobs, PredictionJobs, ClaudeJobs])
def test_a_bucket_that_can_be_listed(made, tmp_path):
    with made() as wire:
        wire.files = {"head/gate/batch_1/in.jsonl": b"", "head/gate/other": b""}
        seen = told(tmp_path, wire)
        assert (seen["state"], list(seen["measured"])) == ("ok", ["ask"])
        assert "://our-batches/head/gate/ can be listed" in seen["says"]
        assert seen["says"].endswith("of batches 1 objects lie there")
        assert set(wire.files) == {"head/gate/batch_1/in.jsonl", "head/gate/other"}


@pytest.mark.parametrize("made", [InvocationJobs, PredictionJobs])
def test_one_that_is_not_there(made, tmp_path):
    with made() as wire:
        wire.refuse["/our-batches"] = (404, "It does not exist")
        seen = told(tmp_path, wire)
    assert seen["state"] == "fault"
    assert "(404 Refused)" in seen["says"]
    assert "docs/batches.md" in seen["advice"]


def test_a_wrong_secret(tmp_path):
    with InvocationJobs() as wire:
        seen = told(tmp_path, wire, 'secret_access_key = "', 'secret_access_key = "not-')
    assert seen["state"] == "fault"
    assert "(403 " in seen["says"]


def test_a_token_that_cannot_be_had(tmp_path):
    with PredictionJobs() as wire:
        seen = told(tmp_path, wire, '["echo", ', '["false", ')
    assert seen["state"] == "fault"
    assert "token_command ended with 1" in seen["says"]
    assert "credential" in seen["advice"]


def test_one_that_does_not_answer(tmp_path):
    with PredictionJobs() as wire:
        wire.refuse["/our-batches"] = (503, "Later")
        seen = told(tmp_path, wire)
    assert (seen["state"], "503" in seen["says"]) == ("warning", True)
