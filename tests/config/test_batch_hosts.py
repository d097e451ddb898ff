"""Settings of providers whose answers of batches lie at other hosts."""

from __future__ import annotations

import pytest
from tests.config.test_config import loaded

from headgate.config import ConfigError
from headgate.providers.registry import BATCHES
from headgate.providers.siliconflowbatches import SiliconFlowBatches
from headgate.transport.elsewhere import among, check_pattern

ROW = '[[providers]]\nname = "siliconflow"\napi_key = "k"\n'


@pytest.mark.parametrize(
    "place",
    ["", 'base_url = "https://api.siliconflow.cn/v1"\n', 'base_url = "https://api.siliconflow.com/v1"\n'],
)
def test_both_of_its_sites_have_its_batch_api(place, tmp_path):
    [host] = loaded(toml=f'{ROW}{place}batch = "provider"\n', tmp_path=tmp_path).hosts
    assert isinstance(BATCHES[host.batches], SiliconFlowBatches)
    for pattern in host.batch_hosts:
        check_pattern(pattern)
    for named in ("s3.siliconflow.cn", "s3.siliconflow.com", "sc-maas.oss-cn-shanghai.aliyuncs.com"):
        assert among(named, host.batch_hosts)
    for other in ("siliconflow.cn.example", "oss-cn-shanghai-internal.aliyuncs.com", "127.0.0.1"):
        assert not among(other, host.batch_hosts)


def test_a_variable_moves_it_to_its_other_site(tmp_path):
    env = {"SILICONFLOW_API_KEY": "k", "SILICONFLOW_BASE_URL": "https://api.siliconflow.com/v1"}
    [host] = loaded(env, tmp_path=tmp_path).hosts
    assert (host.name, host.base_url, host.batches) == (
        "siliconflow",
        env["SILICONFLOW_BASE_URL"],
        "siliconflow",
    )


def test_hosts_that_are_named_stand_for_the_usual_ones(tmp_path):
    [host] = loaded(toml=f'{ROW}batch_hosts = ["minio.example:9000"]\n', tmp_path=tmp_path).hosts
    assert host.batch_hosts == ("minio.example:9000",)
    [host] = loaded(toml=f"{ROW}batch_hosts = []\n", tmp_path=tmp_path).hosts
    assert host.batch_hosts == ()


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (f'{ROW}batch_hosts = ["*"]\n', r"provider 'siliconflow': '\*' is not host\.example"),
        (f'{ROW}batch_hosts = ["*.com"]\n', r"'\*\.com' is not"),
        (f'{ROW}batch_hosts = ["https://s3.example"]\n', "'https://s3.example' is not"),
        ('[[providers]]\nname = "openai"\nbatch_hosts = ["a.example"]\n', "those of 'openai' do not"),
    ],
)
def test_what_is_wrong_is_named(toml, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        loaded(toml=toml, tmp_path=tmp_path)
