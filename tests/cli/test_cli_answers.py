"""What `headgate doctor` says of where answers of batches lie, against a provider that tells addresses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.batch_link_wires import SiliconFlowBatches

from headgate.cli.root import cli

ROW = '[[providers]]\nname = "siliconflow"\nbase_url = "{base}"\n{credential}\n{more}'
ROUTE = '[[models]]\nname = "m"\ntargets = [{ provider = "siliconflow", model = "x", batch = "provider-first" }]\n'
ENDED = {
    "id": "b0", "cancelled": False, "file": "f", "metadata": None, "how": "completed", "output": "o",
    "errors": None, "seen": 9, "state": "ended",
}  # fmt: skip


@pytest.fixture
def wire():
    with SiliconFlowBatches() as made:
        yield made


def told(folder: Path, wire: SiliconFlowBatches, more: str) -> list[dict[str, Any]]:
    (folder / "headgate.toml").write_text(ROW.format(base=wire.base, credential=wire.credential, more=more))
    asked = ["doctor", "--json", "--config", str(folder / "headgate.toml"), "--data", str(folder / "data")]
    found = json.loads(CliRunner().invoke(cli, asked).output)["findings"]
    return [each for each in found if each["about"] == "batches of siliconflow"]


@pytest.mark.parametrize("passed", ['batch = "provider"\n', ROUTE])
def test_one_that_has_no_answers_yet_says_where_they_may_lie(wire, tmp_path, passed):
    [seen] = told(tmp_path, wire, passed)
    assert (seen["state"], list(seen["measured"])) == ("ok", ["ask"])
    assert "*.siliconflow.cn, *.siliconflow.com" in seen["says"]
    assert wire.asked.count("GET /v1/batches") == 1


def test_answers_at_a_host_that_is_named(wire, tmp_path):
    wire.batches["b0"] = ENDED
    [seen] = told(tmp_path, wire, f'batch = "provider"\n{wire.more}')
    assert seen["state"] == "ok"
    assert f"answers lie at {wire.store.authority}, which batch_hosts names" in seen["says"]
    assert wire.store.asked == []


def test_answers_at_another_are_a_fault_that_says_what_to_name(wire, tmp_path):
    wire.batches["b0"] = {**ENDED, "errors": "e"}
    [seen] = told(tmp_path, wire, 'batch = "provider"\n')
    assert seen["state"] == "fault"
    assert f"answers lie at {wire.store.authority}, which batch_hosts (*.siliconflow.cn" in seen["says"]
    assert "batch_hosts" in seen["advice"]
    assert "Signature" not in json.dumps(seen)


def test_what_is_no_address_to_ask_is_named(wire, tmp_path):
    wire.batches["b0"] = ENDED
    wire.address = lambda name: f"http://{wire.store.authority}/{name}"
    [seen] = told(tmp_path, wire, f'batch = "provider"\n{wire.more}')
    assert (seen["state"], "what is no https address" in seen["says"]) == ("fault", True)


@pytest.mark.parametrize(
    ("refused", "state", "says"),
    [
        ((401, ""), "fault", "own credential"),
        ((503, "Later"), "warning", "Later"),
        ((404, "No"), "warning", "No"),
    ],
)
def test_one_that_does_not_answer(wire, tmp_path, refused, state, says):
    wire.refuse["/v1/batches"] = refused
    [seen] = told(tmp_path, wire, 'batch = "provider"\n')
    assert (seen["state"], says in seen["says"]) == (state, True)


@pytest.mark.parametrize(
    ("more", "key"), [("", "k"), ('batch = "own"\n', "k"), ('batch = "provider"\n', "stored:siliconflow")]
)
def test_nobody_is_asked_where_no_batch_is_passed_on_or_the_key_is_a_servers(wire, tmp_path, more, key):
    wire.credential = f'api_key = "{key}"'
    assert told(tmp_path, wire, more) == []
    assert "GET /v1/batches" not in wire.asked
