"""Settings of providers that read batches from a bucket: what is missing is named."""

from __future__ import annotations

import pytest
from tests.config.test_config import loaded

from headgate.config import ConfigError

VERTEX = '[[providers]]\nname = "vertex"\nproject = "ours"\n'
TOKEN = 'token_command = ["echo", "t"]\n'
BEDROCK = '[[providers]]\nname = "bedrock"\nlocation = "us-east-1"\n'
CLAUDE = '[[providers]]\nname = "vertex-claude"\nproject = "ours"\nbatch_bucket = "gs://our-bucket"\n'
KEYS = 'access_key_id = "AKID"\nsecret_access_key = "s"\n'
ROUTE = '[[models]]\nname = "m"\ntargets = [{ provider = "vertex", model = "g", batch = "provider" }]\n'


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (
            f'{VERTEX}{TOKEN}batch = "provider"',
            "batch_bucket is missing: 'vertex' reads batches .* gs://BUCKET",
        ),
        (f'{VERTEX}{TOKEN}batch = "provider-first"', "provider 'vertex': batch_bucket is missing"),
        (f"{VERTEX}{TOKEN}{ROUTE}", "model 'm': batch_bucket is missing"),
        (f'{CLAUDE}{TOKEN}batch = "provider"', "location is missing, or global: .* Name a region"),
        (
            f'{CLAUDE}{TOKEN}location = "global"\n{ROUTE.replace("vertex", "vertex-claude")}',
            "model 'm': location is missing, or global",
        ),
        (f'{VERTEX}api_key = "k"\nbatch_bucket = "gs://bb"', "service_account or token_command; no API key"),
        (f'{VERTEX}{TOKEN}batch_bucket = "s3://bbb"', "batch_bucket 's3://bbb' is not gs://BUCKET"),
        (f'{VERTEX}{TOKEN}batch_bucket = "gs://bbb"\nbatch_endpoint = "ftp://x"', "ftp|http"),
        (
            '[[providers]]\nname = "openai"\nbatch_bucket = "gs://bbb"',
            "batch_bucket is for providers that read",
        ),
        (
            f"{BEDROCK}{KEYS}batch_lines = 99",
            "provider 'bedrock': a batch there has at most 99 requests .* at least 100 .*batch_least",
        ),
        ('[[providers]]\nname = "openai"\nbatch_lines = 5\nbatch_least = 6', "at most 5 requests .* least 6"),
        ('[[providers]]\nname = "openai"\nbatch_least = 50001', "at most 50,000 requests .* least 50,001"),
        ('[[providers]]\nname = "openai"\nbatch_least = -1', "batch_lines and batch_least begin at 0"),
    ],
)
def test_what_is_missing_or_wrong_is_named(toml, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        loaded(toml=toml, tmp_path=tmp_path)


@pytest.mark.parametrize("said", ['location = "us-east5"', 'location = "eu"'])
def test_claude_runs_batches_at_a_region(said, tmp_path):
    [host] = loaded(toml=f'{CLAUDE}{TOKEN}{said}\nbatch = "provider"\n', tmp_path=tmp_path).hosts
    assert (host.kind, host.batch, host.several, host.schema) == ("vertex-claude", "provider", False, "tried")
    assert host.base_url.endswith(f"/projects/ours/locations/{host.location}")
    assert host.bucket is not None


@pytest.mark.parametrize(
    "said", ["batch_lines = 100", "batch_lines = 50\nbatch_least = 50", "batch_lines = 0"]
)
def test_parts_that_are_large_enough_may_be_small(said, tmp_path):
    [host] = loaded(toml=f"{BEDROCK}{KEYS}{said}", tmp_path=tmp_path).hosts
    assert host.kind == "bedrock"


def test_calls_of_claude_may_go_to_the_global_endpoint(tmp_path):
    [host] = loaded(toml=f"{CLAUDE}{TOKEN}", tmp_path=tmp_path).hosts
    assert host.base_url == "https://aiplatform.googleapis.com/v1/projects/ours/locations/global"


def test_a_bucket_is_there_for_whoever_passes_batches(tmp_path):
    toml = f'{VERTEX}{TOKEN}batch_bucket = "gs://our-bucket/a"\n{ROUTE}'
    [host] = loaded(toml=toml, tmp_path=tmp_path).hosts
    assert host.bucket is not None
    assert host.bucket.url("x") == "gs://our-bucket/x"
    assert (host.bucket.prefix, host.bucket.host) == ("a/", "storage.googleapis.com")
