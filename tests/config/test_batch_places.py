"""Settings of where batches are made and where answers lie: what is missing or wrong is named."""

from __future__ import annotations

import pytest
from tests.config.test_config import loaded

from headgate.config import ConfigError

ROW = '[[providers]]\nname = "fireworks"\napi_key = "k"\n'
ROUTE = '[[models]]\nname = "m"\ntargets = [{ provider = "fireworks", model = "x", batch = "provider" }]\n'
KNOWN = ("storage.googleapis.com", "*.storage.googleapis.com")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (f'{ROW}batch = "provider"', "provider 'fireworks': batch_account is missing: the id of the account"),
        (f'{ROW}batch = "provider-first"', "batch_account is missing"),
        (f"{ROW}{ROUTE}", "model 'm': batch_account is missing"),
        (f'{ROW}batch = "provider"', "FIREWORKS_ACCOUNT_ID says it, too. See docs/batches.md"),
        (
            '[[providers]]\nname = "volcengine"\nbatch_bucket = "gs://my-batches"',
            "batch_bucket is for providers that read batches from buckets; 'volcengine' does not",
        ),
        (
            '[[providers]]\nname = "volcengine"\nbatch_models = { "doubao" = "" }',
            "batch_models names no endpoint for 'doubao'",
        ),
        (
            '[[providers]]\nname = "deepseek"\nbatch = "provider"',
            "and the known hosts cerebras, dashscope, fireworks, .*volcengine.*; 'deepseek' has no batch API",
        ),
        (f'{ROW}batch_account = "a/b"', "batch_account 'a/b' is no id of an account"),
        (f'{ROW}batch_account = "accounts/acme"', "is no id of an account"),
        (f'{ROW}batch_hosts = ["https://s.example"]', "'https://s.example' is not host.example"),
        (f'{ROW}batch_hosts = ["*.com"]', "is not host.example"),
        (
            '[[providers]]\nname = "openai"\nbatch_account = "acme"',
            "batch_account is for providers that make batches in an account; 'openai' does not",
        ),
        (
            '[[providers]]\nname = "openai"\nbatch_hosts = ["s.example"]',
            "batch_hosts is for providers whose answers lie at other hosts; those of 'openai' do not",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_named(toml, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        loaded(toml=toml, tmp_path=tmp_path)


def test_an_account_and_where_answers_lie(tmp_path):
    toml = f'{ROW}batch = "provider"\nbatch_account = "acme-1"\n'
    [host] = loaded(toml=toml, tmp_path=tmp_path).hosts
    assert (host.batch, host.handover.account, host.batch_hosts) == ("provider", "acme-1", KNOWN)
    [host] = loaded(toml=f'{toml}batch_hosts = ["s.example:8443"]', tmp_path=tmp_path).hosts
    assert host.batch_hosts == ("s.example:8443",)


def test_the_account_is_also_had_from_its_usual_name(tmp_path):
    env = {"FIREWORKS_API_KEY": "k", "FIREWORKS_ACCOUNT_ID": "acme-env"}
    [host] = loaded(toml=ROUTE, tmp_path=tmp_path, environment=env).hosts
    assert host.handover.account == "acme-env"
    [host] = loaded(toml=f'{ROW}batch_account = "acme-file"\n', tmp_path=tmp_path, environment=env).hosts
    assert host.handover.account == "acme-file"
    other = f'{ROW}kind = "anthropic"\nbase_url = "https://x.example"\n'
    [host] = loaded(toml=other, tmp_path=tmp_path, environment=env).hosts
    assert host.handover.account == ""


def test_where_answers_lie_is_known_by_the_kind_whatever_the_name(tmp_path):
    row = '[[providers]]\nname = "mine"\nkind = "cohere"\nbase_url = "https://api.cohere.com/v2"\napi_key = "k"\n'
    [host] = loaded(toml=row, tmp_path=tmp_path).hosts
    assert host.batch_hosts == KNOWN
    [host] = loaded(toml=f"{row}batch_hosts = []", tmp_path=tmp_path).hosts
    assert host.batch_hosts == ()
