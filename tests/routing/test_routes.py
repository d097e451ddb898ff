from datetime import UTC, datetime

import pytest

from headgate.config import ServeOptions, load
from headgate.errors import NotFound, Unavailable
from headgate.process.outward import SIMULATOR, build_routes
from headgate.providers.registry import known_hosts
from headgate.routing.routes import Routes
from headgate.settings.upstreams import ConfigError
from headgate.values import Book, RoomTerms

NOW = 1_795_000_000_000_000


def routes(tmp_path=None, toml="", environment=None, **options) -> Routes:
    if toml:
        (tmp_path / "headgate.toml").write_text(toml)
        options["config"] = str(tmp_path / "headgate.toml")
    return build_routes(load(ServeOptions(env_file="", **options), environment or {}), "instance")


def served(table: Routes, model: str, book: Book = Book.REAL) -> list[tuple[str, str]]:
    return [(target.host.name, target.model.name) for target in table.candidates(model, book, NOW)]


BOTH = {"OPENAI_API_KEY": "sk-a", "DEEPSEEK_API_KEY": "sk-b"}


def test_a_model_goes_to_the_provider_that_has_it():
    table = routes(environment=BOTH)
    assert served(table, "gpt-4o") == [("openai", "gpt-4o")]
    assert served(table, "deepseek-chat") == [("deepseek", "deepseek-chat")]
    assert served(table, "deepseek/anything") == [("deepseek", "anything")]


def test_a_provider_that_is_given_its_models_serves_no_others(tmp_path):
    toml = """
[[providers]]
name = "openai"
models = ["gpt-4o*"]
[[providers]]
name = "corp"
base_url = "http://corp/v1"
models = ["gpt-5*"]
[[providers]]
name = "azure"
base_url = "https://corp.openai.azure.com"
api_key = "k"
models = ["prod-*"]
deployments = {prod-mini = "gpt-4.1-mini"}
"""
    table = routes(tmp_path, toml, {"OPENAI_API_KEY": "sk-a"})
    assert served(table, "gpt-4o") == [("openai", "gpt-4o")]
    assert served(table, "gpt-5") == [("corp", "gpt-5")]
    assert served(table, "prod-mini") == [("azure", "prod-mini")]
    for name in ("gpt-4", "gpt-4.1-mini"):
        with pytest.raises(NotFound):
            served(table, name)
    assert {"gpt-4o", "prod-mini"} < table.named(Book.REAL).keys()
    assert not {"gpt-4", "gpt-4.1-mini"} & table.named(Book.REAL).keys()
    assert served(table, "openai/gpt-4") == [("openai", "gpt-4")], "who names the provider gets it"


def test_models_of_videos_are_listed_where_their_maker_is_spoken_to():
    listed = routes(environment={"XAI_API_KEY": "x", "DASHSCOPE_API_KEY": "d"}).named(Book.REAL)
    assert listed["grok-imagine-video"] == "x-ai"
    assert not any(name.startswith("wan") for name in listed)  # made by a wire that nobody speaks here


def test_an_alias_and_what_helps_where_nobody_has_a_model():
    table = routes(environment={"DEEPSEEK_API_KEY": "sk-b"}, aliases=("gpt-3.5-turbo=deepseek-chat",))
    assert served(table, "gpt-3.5-turbo") == [("deepseek", "deepseek-chat")]
    with pytest.raises(NotFound, match="Providers found here: deepseek") as caught:
        served(table, "claude-x")
    assert caught.value.code == "model_not_found"
    assert "--alias claude-x=deepseek-flash`" in caught.value.message


def test_each_hosts_example_is_a_model_that_it_serves(tmp_path):
    for name, row in known_hosts().items():
        if row.keys or row.url_env:
            variables = {row.keys[0]: "sk-a"} if row.keys else {row.url_env: "http://127.0.0.1:1"}
            places = {"base_url": "http://127.0.0.1:1", "location": "us-east-1"}
            variables |= {row.env[said][0]: value for said, value in places.items() if said in row.env}
            table = routes(environment=variables)
        else:  # one that needs more than a variable
            table = routes(tmp_path, f'[[providers]]\nname = "{name}"\nproject = "p"', {})
        if row.example:
            assert served(table, row.example) == [(name, row.example)]
        else:
            assert row.local  # only its owner knows its models


def test_targets_come_by_weight_and_fallbacks_after_them_without_a_circle(tmp_path):
    toml = """
[[models]]
name = "a"
targets = [{provider = "deepseek", model = "x", weight = 1}, {provider = "openai", model = "y", weight = 9}]
fallback = ["b", "a"]
[[models]]
name = "b"
targets = [{provider = "openai", model = "z"}]
fallback = ["a"]
"""
    table = routes(tmp_path, toml, BOTH)
    assert served(table, "a") == [("openai", "y"), ("deepseek", "x"), ("openai", "z")]


def test_without_a_provider_the_answer_is_503_and_names_the_variable():
    with pytest.raises(Unavailable, match="OPENAI_API_KEY"):
        served(routes(), "gpt-4o")


def test_the_simulator_plays_known_models_and_its_own_and_nothing_else():
    table = routes()
    assert served(table, "gpt-5", Book.SIM) == [(SIMULATOR.name, "gpt-5")]
    assert served(table, "sim-500", Book.SIM) == [(SIMULATOR.name, "sim-500")]
    with pytest.raises(NotFound):
        served(table, "gpt-4oo", Book.SIM)


PLAYED = """
[[providers]]
name = "corp"
base_url = "http://corp/v1"
api_key = "k"
models = ["corp-*"]
[[models]]
name = "smart"
targets = [{ provider = "corp", model = "corp-1" }, { provider = "corp", model = "gpt-4o", weight = 1 }]
when = { keys = ["shop-*"] }
[[models]]
name = "own"
targets = [{ provider = "corp", model = "corp-1" }]
shadow = { target = { provider = "corp", model = "corp-2" }, share_percent = 100, budget = "1/day" }
hedge = { after_ms = 100 }
fallback = ["gpt-5"]
[[models]]
name = "gpt-5"
targets = [{ provider = "corp", model = "corp-1" }]
[aliases]
"对话" = "own"
[prices]
rows = [{ model = "corp-1", provider = "corp", input = "7", output = "9" }]
"""


def test_the_simulator_plays_the_models_of_the_settings(tmp_path):
    table = routes(tmp_path, PLAYED)
    assert served(table, "smart", Book.SIM) == [(SIMULATOR.name, "gpt-4o")], "one that it knows"
    assert served(table, "gpt-5", Book.SIM) == [(SIMULATOR.name, "gpt-5")]
    for name in ("own", "对话"):
        [target] = table.candidates(name, Book.SIM, NOW)
        assert (target.host.name, target.model.name, target.simulated) == (SIMULATOR.name, "corp-1", True)
        assert (target.prices.input, target.prices.output) == (7_000_000, 9_000_000)
        assert {"chat", "embeddings", "images"} <= set(target.model.operations)
    assert {"smart", "own", "对话"} < table.named(Book.SIM).keys()
    with pytest.raises(NotFound, match="This key is for tests"):
        served(table, "corp-1", Book.SIM)


def test_a_tier_has_its_own_prices_and_local_hosts_cost_nothing():
    table = routes(environment={"OPENAI_API_KEY": "sk-a", "OLLAMA_HOST": "h:1"})
    standard, fast = (
        table.candidates("gpt-5", Book.REAL, NOW, tier)[0].prices.output for tier in ("", "priority")
    )
    assert fast > standard
    assert table.candidates("llama3", Book.REAL, NOW)[0].prices.output == 0


@pytest.mark.parametrize("more", ["\0", "\x1f", "\n", "\ud800"])
@pytest.mark.parametrize("book", list(Book))
def test_no_model_has_a_name_that_stores_keep_otherwise(more, book):
    table = routes(environment={"OPENAI_API_KEY": "sk-test-1"})
    assert served(table, "gpt-4o-mini", book)
    for name in (f"gpt-4o-mini{more}", f"openai/{more}m", f"gpt-4o-{more}x"):
        with pytest.raises(NotFound):
            table.candidates(name, book, 0)


def test_names_from_callers_do_not_fill_memory():
    table = routes(environment={"OLLAMA_HOST": "h:1"})
    for number in range(10_100):
        table.candidates(f"m{number}", Book.REAL, NOW)
    assert len(table._known) <= 10_001


def at(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[arg-type]


def test_prices_change_at_their_own_hour_and_not_only_at_midnight():
    table = routes(environment=BOTH)

    def price(*when: int) -> int:
        return table.candidates("deepseek-chat", Book.REAL, at(*when))[0].prices.output

    cheap = price(2026, 11, 24, 0, 29, 59)  # its off-peak hours end at 00:30
    dear = price(2026, 11, 24, 0, 30)
    assert dear > cheap
    assert price(2026, 11, 24, 16, 29, 59) == dear
    assert price(2026, 11, 24, 16, 30) == cheap
    assert price(2026, 11, 24, 12) == dear, "a clock that steps back finds the price of its hour"


def test_a_row_of_ones_own_begins_on_its_day(tmp_path):
    toml = """
[prices]
rows = [
  { model = "mine", input = "1", output = "2", context_window = 8000 },
  { model = "mine", input = "3", output = "4", since = "2026-11-24" },
]
"""
    table = routes(tmp_path, toml, {"DEEPSEEK_API_KEY": "sk-b"})
    before = table.candidates("deepseek/mine", Book.REAL, at(2026, 11, 23, 23, 59, 59))[0]
    after = table.candidates("deepseek/mine", Book.REAL, at(2026, 11, 24))[0]
    assert (before.prices.output, after.prices.output) == (2_000_000, 4_000_000)
    assert before.model.context_window == 8000


def test_a_price_that_a_fallback_changes_at_an_hour_ends_the_whole_list(tmp_path):
    toml = """
[[models]]
name = "a"
targets = [{provider = "openai", model = "gpt-4o"}]
fallback = ["deepseek-chat"]
"""
    table = routes(tmp_path, toml, BOTH)
    cheap = table.candidates("a", Book.REAL, at(2026, 11, 24, 0, 29))[1].prices.output
    assert table.candidates("a", Book.REAL, at(2026, 11, 24, 0, 31))[1].prices.output > cheap


def test_an_accounts_own_prices_are_worked_out_once_and_leave_our_costs_alone():
    table = routes(environment=BOTH)
    targets = table.candidates("gpt-4o", Book.REAL, NOW)
    (plain,) = targets
    (dear,) = table.resold(targets, 1_200_000)
    assert dear.prices.input == plain.prices.input * 12 // 10
    assert dear.prices.output == plain.prices.output * 12 // 10
    assert dear.costs == plain.costs
    (cheap,) = table.resold(targets, 1)
    assert cheap.prices.input == -(-plain.prices.input // 1_000_000)  # never rounded down to nothing
    assert table.resold(targets, 1_200_000) is table.resold(targets, 1_200_000)
    assert table.candidates("gpt-4o", Book.REAL, NOW) is targets


def test_what_has_no_price_has_none_for_anybody(tmp_path):
    table = routes(tmp_path, '[[providers]]\nname = "own"\nbase_url = "http://h/v1"\nmodels = ["*"]\n')
    targets = table.candidates("own-model", Book.REAL, NOW)
    assert [target.prices for target in table.resold(targets, 2_000_000)] == [None]


@pytest.mark.parametrize("name", ["deepseek-chat", "claude-sonnet-4-6", "gemini-2.5-pro", "gpt-4o"])
def test_the_simulator_charges_what_the_played_model_costs(name):
    [target] = routes().candidates(name, Book.SIM, NOW)
    assert target.prices.output > 0


ROOM = """
[[providers]]
name = "openai"
api_key = "sk-x"
max_concurrent = 8
max_waiting = 20
[[models]]
name = "a"
targets = [{ provider = "openai", model = "gpt-4o", max_concurrent = 4 }]
[[models]]
name = "b"
targets = [{ provider = "openai", model = "gpt-4o" }]
"""


def test_a_target_has_its_room_whichever_way_leads_to_it(tmp_path):
    table = routes(tmp_path, ROOM)
    for name in ("a", "b", "openai/gpt-4o"):
        [target] = table.candidates(name, Book.REAL, NOW)
        assert (target.room, target.host.room) == (RoomTerms(4, 20, 10.0), RoomTerms(8, 20, 10.0))
    [other] = table.candidates("openai/o3", Book.REAL, NOW)
    assert other.room == RoomTerms(0, 20, 10.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("max_concurrent = 8", "max_concurrent = -1"), "provider 'openai': max_concurrent must be 0"),
        (("max_waiting = 20", "max_waiting = -1"), "provider 'openai': max_waiting must be 0 to 100000"),
        (("max_concurrent = 4", "longest_wait_s = 601"), "target openai/gpt-4o: max_waiting must be 0"),
        (
            ('model = "gpt-4o" }', 'model = "gpt-4o", max_concurrent = 5 }'),
            "model 'b': another model has other",
        ),
        (
            ("[[providers]]", "[server]\nworkers = 6\n[[providers]]"),
            "max_concurrent 4 is below the 6 workers",
        ),
    ],
)
def test_room_that_makes_no_sense_is_refused(tmp_path, change, said):
    with pytest.raises(ConfigError, match=said):
        routes(tmp_path, ROOM.replace(*change))
