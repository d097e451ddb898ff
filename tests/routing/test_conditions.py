"""Which targets are for a call: by who asks, what is in it, and what a model can take."""

from __future__ import annotations

from itertools import count
from typing import Any

import msgspec
import pytest
from tests.routing.test_routes import BOTH, NOW, routes

from headgate.errors import NoTarget
from headgate.http.parse import parse
from headgate.routing.conditions import Described, fitting, unfit
from headgate.settings.upstreams import ConfigError
from headgate.steering import described
from headgate.values import Book, Call, Principal

NUMBERS = count(1)
WHO = Principal(key=1, project=1, account=1, name="shop", project_id="proj_1", tier="tier-2")


def asked(*content: dict[str, Any], **members: Any) -> Described:
    """What conditions see of a call of chat."""
    call = Call(next(NUMBERS).to_bytes(16), "chat", 0)
    call.principal = WHO
    text = {"type": "text", "text": "Hello"}
    body = {"model": "m", "messages": [{"role": "user", "content": [text, *content]}]}
    parse(msgspec.json.encode(body | members), call)
    return described(call)


IMAGE = {"type": "image_url", "image_url": {"url": "https://h/a.png"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
FILE = {"type": "file", "file": {"file_id": "file-1"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "json_object"}


def test_what_a_call_holds_is_seen() -> None:
    assert asked().holds == frozenset()
    assert asked(IMAGE).holds == {"images"}
    assert asked(SOUND, FILE).holds == {"audio", "files"}
    assert asked(tools=[TOOL], response_format=SCHEMA).holds == {"tools", "schema"}
    assert asked(tools=None, response_format={"type": "text"}).holds == frozenset()
    call = asked(stream=True, metadata={"team": "search"})
    assert (call.key, call.project, call.tier, call.stream) == ("shop", "proj_1", "tier-2", True)
    assert call.metadata == {"team": "search"}


def one(tmp_path: Any, when: str, model: str = "x") -> Any:
    toml = f"""
[[models]]
name = "m"
targets = [{{provider = "openai", model = "{model}", when = {{{when}}}}}]
"""
    [target] = routes(tmp_path, toml, BOTH).candidates("m", Book.REAL, NOW)
    return target


FITS = Described(
    "m", "shop-1", "proj_1", "tier-2", {"team": "search"}, 8000, frozenset({"images", "tools"}), stream=True
)


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ('keys = ["a", "shop-*"]', ""),
        ('keys = ["shop"]', "for keys shop"),
        ('projects = ["proj_1"]', ""),
        ('projects = ["proj_*"]', "for projects proj_*"),
        ('tiers = ["tier-1"]', "for tiers tier-1"),
        ('metadata = {team = "sea*"}', ""),
        ('metadata = {team = "sales"}', "for metadata team = sales"),
        ('metadata = {other = "*"}', "for metadata other = *"),
        ("min_input_tokens = 8000, max_input_tokens = 8000", ""),
        ("min_input_tokens = 8001", "for inputs from 8,001 tokens"),
        ("max_input_tokens = 7999", "for inputs up to 7,999 tokens"),
        ('has = ["images", "tools"]', ""),
        ('has = ["images", "audio"]', "for calls with audio"),
        ('lacks = ["audio", "tools"]', "for calls without tools"),
        ("stream = false", "for answers that are not streamed"),
        ('stream = true, keys = ["shop-1"], tiers = ["tier-2"]', ""),
        ('stream = true, keys = ["shop-1"], tiers = ["free"]', "for tiers free"),
    ],
)
def test_everything_that_is_said_must_be_true(tmp_path, when: str, why: str) -> None:
    assert unfit(one(tmp_path, when), FITS) == why


def test_a_model_takes_what_its_card_says_and_without_a_card_everything(tmp_path) -> None:
    holds = {"images": FITS._replace(holds=frozenset({"images"})), "none": FITS._replace(holds=frozenset())}
    assert unfit(one(tmp_path, "able = true", "gpt-3.5-turbo"), holds["images"]) == "for calls without images"
    assert unfit(one(tmp_path, "able = true", "gpt-3.5-turbo"), holds["none"]) == ""
    assert unfit(one(tmp_path, "able = true", "gpt-4o"), holds["images"]) == ""
    assert unfit(one(tmp_path, "able = true", "a-model-of-ours"), FITS) == ""


CHAIN = """
[[models]]
name = "smart"
targets = [
  { provider = "openai", model = "small", when = { max_input_tokens = 1000 } },
  { provider = "openai", model = "seeing", when = { has = ["images"] } },
]
fallback = ["long", "plain"]
[[models]]
name = "long"
when = { min_input_tokens = 1001 }
targets = [{ provider = "deepseek", model = "wide" }]
fallback = ["wider"]
[[models]]
name = "wider"
targets = [{ provider = "openai", model = "widest" }]
[[models]]
name = "plain"
targets = [{ provider = "deepseek", model = "last", when = { lacks = ["images"] } }]
"""


def test_a_condition_of_a_model_holds_for_its_targets_and_what_it_falls_back_to(tmp_path) -> None:
    table = routes(tmp_path, CHAIN, BOTH)
    targets = table.candidates("smart", Book.REAL, NOW)
    assert all(target.steered for target in targets)

    def taken(tokens: int, *holds: Any) -> str:
        call = Described("smart", input_tokens=tokens, holds=frozenset(holds))
        return " ".join(target.model.name for target in fitting(targets, call))

    assert taken(10) == "small last"
    assert taken(10, "images") == "small seeing"
    assert taken(5000) == "wide widest last"
    assert taken(5000, "images") == "seeing wide widest"
    assert not any(target.steered for target in table.candidates("wider", Book.REAL, NOW))


def test_a_call_that_nothing_is_for_is_told_what_it_is_like_and_no_value_of_its_metadata(tmp_path) -> None:
    targets = routes(tmp_path, CHAIN, BOTH).candidates("plain", Book.REAL, NOW)
    call = Described(
        "plain", "shop", metadata={"team": "hidden"}, input_tokens=9000, holds=frozenset({"images"})
    )
    with pytest.raises(NoTarget) as caught:
        fitting(targets, call)
    said = caught.value
    assert (said.http_status, said.code, said.param) == (400, "no_target_for_call", "model")
    assert "`plain`" in said.message
    assert "about 9,000 input tokens, images, not streamed, key `shop`, metadata `team`" in said.message
    assert "hidden" not in said.message


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("min_input_tokens = 9, max_input_tokens = 8", "min_input_tokens 9 is above max_input_tokens 8"),
        ("min_input_tokens = -1", "begin at 0"),
        ('has = ["images"], lacks = ["images"]', "both name images"),
        ('has = ["video"]', "video"),
        ("minimum = 1", "minimum"),
    ],
)
def test_conditions_that_cannot_be_meant_are_refused(tmp_path, when: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        one(tmp_path, when)
    model = f'[[models]]\nname = "m"\nwhen = {{{when}}}\ntargets = [{{provider = "openai", model = "x"}}]'
    with pytest.raises(ConfigError, match=said):
        routes(tmp_path, model, BOTH)
