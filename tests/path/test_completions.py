"""Old-style completions: a limit of 0, and an echo that is text but was not made."""

import dataclasses

import msgspec
import pytest
from tests.path.fakes import PRICES, Bench, ListSink, Script, target

from headgate.http.parse import parse
from headgate.money.cost import cost
from headgate.money.tokens import Tokenizers
from headgate.process.counting import LocalCounter
from headgate.values import Call, Usage

pytestmark = pytest.mark.anyio
PROMPT = "one two three four five six seven eight nine ten " * 3


async def settled(usage: object, **members: object) -> tuple[Usage, bool, int, int]:
    answer = {"id": "c", "choices": [{"index": 0, "text": PROMPT, "finish_reason": "length"}], "usage": usage}
    bench = Bench(Script(200, [msgspec.json.encode(answer)]), cap=10**9)
    bench.pipeline._stages = dataclasses.replace(bench.pipeline._stages, counter=LocalCounter(Tokenizers()))
    call = Call(bytes(16), "completions", 0)
    parse(msgspec.json.encode({"model": "m", "prompt": PROMPT, "echo": True} | members), call)
    await bench.serve(call, ListSink(), target())
    [record] = bench.journal.settled()
    return record.usage, record.estimated, record.charge, record.absorbed


async def test_no_tokens_were_made_where_none_were_allowed():
    usage, estimated, charge, _ = await settled({"prompt_tokens": 31, "completion_tokens": 0}, max_tokens=0)
    assert (usage, estimated) == (Usage(31, 0), False)
    assert charge == cost(Usage(31, 0), PRICES)


@pytest.mark.parametrize("limit", [0, 5])
async def test_an_echo_is_not_counted_as_made(limit):
    usage, estimated, _, absorbed = await settled(None, max_tokens=limit)
    assert (usage.output_tokens, estimated, absorbed) == (limit, True, 0)
