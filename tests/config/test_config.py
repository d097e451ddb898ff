import pytest

from headgate.config import ServeOptions, load
from headgate.settings.upstreams import ConfigError

SIMULATED = '[[models]]\nname = "m"\ntargets = [{provider = "simulator", model = "gpt-4o"}]'


def loaded(environment=None, toml="", tmp_path=None, **options):
    if toml:
        (tmp_path / "headgate.toml").write_text(toml)
        options["config"] = str(tmp_path / "headgate.toml")
    options.setdefault("env_file", "")
    return load(ServeOptions(**options), environment or {})


def test_each_known_variable_switches_its_provider_on():
    config = loaded({"OPENAI_API_KEY": "sk-a", "DEEPSEEK_API_KEY": "sk-b", "OLLAMA_HOST": "0.0.0.0:11434"})
    assert [host.name for host in config.hosts] == ["openai", "deepseek", "ollama"]
    assert config.hosts[2].base_url == "http://127.0.0.1:11434/v1"


def test_makers_come_before_those_who_sell_their_models():
    keys = {
        "AZURE_OPENAI_API_KEY": "a",
        "AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com",
        "AWS_BEARER_TOKEN_BEDROCK": "b",
        "AWS_REGION": "us-east-1",
        "OPENAI_API_KEY": "c",
        "DEEPSEEK_API_KEY": "d",
        "MISTRAL_API_KEY": "e",
        "XAI_API_KEY": "f",
    }
    names = [host.name for host in loaded(keys).hosts]
    assert sorted(names[:4]) == ["deepseek", "mistral", "openai", "x-ai"]
    assert sorted(names[4:]) == ["azure", "bedrock"]


def test_what_belongs_to_the_client_is_left_alone():
    config = loaded({"OPENAI_API_KEY": "sk-hg-live-x", "OPENAI_BASE_URL": "http://127.0.0.1:8787/v1"})
    assert config.hosts == ()
    assert config.ignored == ("OPENAI_API_KEY", "OPENAI_BASE_URL")


def test_a_real_key_in_the_env_file_is_found_behind_our_own_in_the_environment(tmp_path):
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-real\n")
    config = loaded({"OPENAI_API_KEY": "sk-hg-live-x"}, env_file=str(tmp_path / ".env"))
    assert config.hosts[0].api_key == "sk-real"


def test_a_file_of_secrets_that_is_no_text_is_told_by_its_name(tmp_path):
    file = tmp_path / "key"
    file.write_bytes(b"sk-\xe9-real")
    toml = tmp_path / "headgate.toml"
    toml.write_text(f'[[providers]]\nname = "openai"\napi_key = "file:{file}"\n')
    with pytest.raises(ConfigError, match=r"line 1: provider 'openai': 'file:.*key' is no file of UTF-8"):
        loaded({}, config=str(toml))
    with pytest.raises(ConfigError, match=r"Cannot read .*key: it is no file of UTF-8"):
        loaded({}, env_file=str(file))


HEDGED = """
[[providers]]
name = "p"
base_url = "http://p/v1"
api_key = "k"
[[providers]]
name = "q"
base_url = "http://q/v1"
api_key = "k"
hangup = "drain"
[[models]]
name = "m"
targets = [{provider = "p", model = "m"}]
hedge = {after_ms = 5}
"""


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[server]\nprt = 1", "prt"),
        ("[server", "not valid TOML"),
        ('[budget]\ncap = "5 per day"', "budget.cap: '5 per day' is not an amount"),
        ('[budget]\ncap = "5/hour"', "budget.cap: '5/hour' has no known period"),
        ('[[providers]]\nname = "x"', "base_url is missing"),
        ('[[providers]]\nname = "x"\nbase_url = "ftp://h"', "http"),
        ('[[providers]]\nname = "perplexity"\nbatch = "provider"', "'perplexity' has no batch API"),
        ('[[providers]]\nname = "openrouter"\nbatch = "provider"', "'openrouter' has no batch API"),
        ('[[providers]]\nname = "openai"\nbatch_lines = -1', "begin at 0"),
        ('[[providers]]\nname = "volcengine"\nbatch = "provider-first"', "takes each line by itself"),
        ('[[providers]]\nname = "openai"\nbatch_models = { a = "b" }', "for the known hosts volcengine"),
        ('[[batch.models]]\nmodel = "m"\nconcurrency = 20000', "0 to 10000"),
        (
            '[[providers]]\nname = "openrouter"\n[[models]]\nname = "m"\ntargets = [{ provider = "openrouter", model = "c", batch = "provider" }]',
            "model 'm': batch = 'provider' and 'provider-first' are for the kinds",
        ),
        ('[[providers]]\nname = "x"\nbase_url = "http://u:p@h/v1"', "http"),
        ('[[providers]]\nname = "openai"\napi_key = "sk-hg-live-x"', "Headgate key"),
        ('[[models]]\nname = "m"\ntargets = [{provider = "nobody", model = "m"}]', "nobody"),
        ("[server]\nworkers = 65", "workers"),
        ("[storage]\nkeep_calls_days = 34", "0, or 35 to 36500"),
        ("[server]\nmonitor_port = 8787", "one of its own"),
        ("[server]\nmonitor_port = 70000", "monitor_port"),
        ("[server]\nmax_body_bytes = -1", "max_body_bytes"),
        ('[[providers]]\nname = "openai"\n[[providers]]\nname = "openai"', "twice"),
        ('[[models]]\nname = "m"\ntargets = []', "targets is empty"),
        (
            '[[providers]]\nname = "p"\nbase_url = "http://p/v1"\napi_key = "k"\n[[models]]\nname = "m"\ntargets = [{provider = "p", model = "m"}]\nhedge = {after_ms = "p99"}',
            "after_ms",
        ),
        (
            '[[providers]]\nname = "p"\nbase_url = "http://p/v1"\napi_key = "k"\n[[models]]\nname = "m"\ntargets = [{provider = "p", model = "m"}]\nhedge = {after_ms = 5, most_percent = 80}',
            "most_percent 80 is not above 0 and at most 50",
        ),
        (
            '[[providers]]\nname = "p"\nbase_url = "http://p/v1"\napi_key = "k"\n[[models]]\nname = "m"\ntargets = [{provider = "p", model = "m"}]\nhedge = {after_ms = 5}\ncanary = {target = {provider = "p", model = "c"}, share_percent = 5}',
            "hedge and canary",
        ),
        (HEDGED, "model 'm': hedge: there is no second target to ask. Give the model another one"),
        (HEDGED.replace("}]", '}, {provider = "q", model = "n"}]'), "no second target"),
        (SIMULATED.replace("}]", ", weight = -1}]"), "weight -1 is not 0 to"),
        ("[batch]\nsilent_s = 1", "batch: silent_s is 2 to 3600"),
        ("[retries]\nattempts = 9", "retries: attempts must be 1"),
        ("[breaker]\nshare_percent = 0", "breaker: share_percent must be"),
        (f"{SIMULATED}\ndeadlines = {{total_s = 0}}", "model 'm': deadlines.total_s"),
        ('[[keys]]\nname = "k"\ndeadlines = {connect_s = -1}', "keys 'k': deadlines.connect_s"),
        ('[aliases]\na = "b"\nb = "c"\nc = "b"', "circle: b = c = b"),
        ('[aliases]\na = "a"', "circle: a = a"),
    ],
)
def test_a_mistake_is_named(toml, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        loaded(toml=toml, tmp_path=tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        ('api_key = "k"', 'api_keys = ["k", "l"]'),
        ("hedge", 'fallback = ["other"]\nhedge'),
        ("}]", '}, {provider = "p", model = "n"}]'),
    ],
)
def test_a_second_key_a_fallback_or_another_target_makes_a_hedge(change, tmp_path):
    other = '[[models]]\nname = "other"\ntargets = [{ provider = "p", model = "n" }]'
    toml = HEDGED.replace(*change, 1) + other
    assert loaded(toml=toml, tmp_path=tmp_path).routes["m"].hedge is not None


def test_a_compatible_host_takes_five_lines(tmp_path):
    toml = '[[providers]]\nname = "corp"\nbase_url = "https://llm.corp.example/v1"\napi_key = "env:CORP"\nmodels = ["c-*"]'
    [host] = loaded({"CORP": "secret"}, toml=toml, tmp_path=tmp_path).hosts
    assert (host.api_key, host.models, host.extras, host.deviates) == ("secret", ("c-*",), "pass", True)


def test_another_gateway_of_ours_is_asked_with_one_of_its_keys(tmp_path):
    toml = '[[providers]]\nname = "hq"\nkind = "headgate"\nbase_url = "https://ai.corp.example/v1"\napi_key = "env:HQ"'
    [host] = loaded({"HQ": "sk-hg-live-x"}, toml=toml, tmp_path=tmp_path).hosts
    assert (host.api_key, host.kind) == ("sk-hg-live-x", "headgate")


def test_aliases_come_from_flags_and_a_bad_one_says_how():
    assert loaded(aliases=("a=b",)).aliases == {"a": "b"}
    assert loaded(aliases=("a=b", "b=c", "c=gpt-4o")).aliases == dict.fromkeys("abc", "gpt-4o")
    with pytest.raises(ConfigError, match="NAME=MODEL"):
        loaded(aliases=("a",))


def test_a_proxy_that_is_none_is_refused_without_its_password():
    with pytest.raises(ConfigError) as caught:
        loaded({"HTTPS_PROXY": "gopher://user:secret@h"})
    assert "secret" not in str(caught.value)
