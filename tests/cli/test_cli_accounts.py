"""What `headgate doctor` says of the accounts in which batches are made."""

from __future__ import annotations

import pytest
from tests.batch_account_wires import FireworksJobs
from tests.cli.test_cli_buckets import told

ROW = '[[providers]]\nname = "fireworks"\nbase_url = "{base}"\n{credential}\n{more}\n'


def test_an_account_whose_jobs_can_be_listed(tmp_path):
    with FireworksJobs() as wire:
        seen = told(tmp_path, wire, row=ROW)
        assert wire.asked[-1] == "GET /v1/accounts/our-account/batchInferenceJobs"
    assert (seen["state"], list(seen["measured"])) == ("ok", ["ask"])
    assert seen["says"].startswith("jobs of account our-account can be listed")


@pytest.mark.parametrize(
    ("old", "new"), [('batch_account = "our', 'batch_account = "their'), ('api_key = "', 'api_key = "not-')]
)
def test_one_that_the_key_does_not_open(old, new, tmp_path):
    with FireworksJobs() as wire:
        seen = told(tmp_path, wire, old, new, row=ROW)
    assert seen["state"] == "fault"
    assert "-account: The provider refused the gateway's own credential (403)" in seen["says"]
    assert "batch_account" in seen["advice"]


def test_one_that_does_not_answer(tmp_path):
    with FireworksJobs() as wire:
        wire.refuse["/batchInferenceJobs"] = (503, "Later")
        seen = told(tmp_path, wire, row=ROW)
    assert (seen["state"], "Later" in seen["says"]) == ("warning", True)
