"""What `GET /v1/models` lists: exactly what a key may use."""

import msgspec
import pytest

from headgate.config import ServeOptions, load
from headgate.errors import NotFound
from headgate.http.offers import offer, offers
from headgate.money.pricedata import day_micros
from headgate.process.outward import build_routes
from headgate.values import Book, Principal

NOW = day_micros("2026-11-26")
KEYS = {"OPENAI_API_KEY": "sk-a", "DASHSCOPE_API_KEY": "sk-b"}
TOML = """
[[providers]]
name = "mine"
base_url = "http://127.0.0.1:9/v1"
models = ["own-*", "own-large"]
[[models]]
name = "fast"
targets = [{provider = "openai", model = "gpt-6-luna"}]
[[models]]
name = "old"
targets = [{provider = "openai", model = "gpt-4"}]
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("offers") / "headgate.toml"
    path.write_text(TOML)
    aliases = ("small=gpt-4o-mini", "nowhere=claude-x")
    return build_routes(load(ServeOptions(env_file="", config=str(path), aliases=aliases), KEYS), "i")


def key(**changes) -> Principal:
    return msgspec.structs.replace(Principal(key=1, project=1, account=1), **changes)


def listed(table, principal, now=NOW):
    return {found.name: found for found in offers(table, principal, now)}


def test_everything_that_can_be_called_is_listed_and_nothing_else(table):
    found = listed(table, key())
    assert {"fast", "small", "gpt-6-luna", "text-embedding-3-small", "qwen-plus"} <= set(found)
    assert found["small"].owner == "headgate"
    assert found["own-large"].owner == "mine"
    assert "own-*" not in found
    assert found["gpt-6-luna"].owner == "openai"
    gone = {
        "nowhere",  # an alias of what nobody here serves
        "gpt-4", "old",  # its maker shut it down, by whatever name
        "gpt-5-pro",  # only by an API that is not served
    }  # fmt: skip
    assert not gone & set(found)
    assert {found["gpt-4o"].shutdown, found["small"].shutdown} == {"2027-01-14"}
    assert "gpt-4o" not in listed(table, key(), day_micros("2027-01-14"))


def test_a_key_sees_its_own_models_and_endpoints(table):
    assert set(listed(table, key(models=("gpt-6-*", "fast")))) >= {"gpt-6-luna", "fast"}
    assert all(name.startswith(("gpt-6-", "fast")) for name in listed(table, key(models=("gpt-6-*", "fast"))))
    embeds = set(listed(table, key(endpoints=("embeddings",))))
    assert "text-embedding-3-small" in embeds
    assert not {"gpt-6-luna", "fast"} & embeds
    assert set(listed(table, key(models=("no-such",)))) == set()


def test_credit_buys_only_what_has_a_price(table):
    assert "qwen-plus" not in listed(table, key(prepaid=True))
    assert "gpt-6-luna" in listed(table, key(prepaid=True))


def test_a_name_that_is_not_listed_may_be_routable(table):
    assert offer(table, key(), "own-thing", NOW).owner == "mine"
    assert offer(table, key(), "gpt-4", NOW).shutdown == "2026-10-23"
    with pytest.raises(NotFound):
        offer(table, key(models=("fast",)), "own-thing", NOW)
    with pytest.raises(NotFound):
        offer(table, key(), "claude-x", NOW)


def test_the_simulator_goes_on_with_what_its_makers_shut_down(table):
    found = listed(table, key(book=Book.SIM))
    assert found["gpt-3.5-turbo"].shutdown == ""
