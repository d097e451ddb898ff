"""What a call costs is never above what was held for it, and rarely far below.

`BOUND_CASES` sets how many calls are drawn (`make bounds` draws 10,000).
"""

import asyncio
import os
from random import Random
from statistics import median

import msgspec
from tests.admission.generated import Case, draw, input_tokens, output_tokens, usage
from tests.leases.funded import Funded, NothingMore
from tests.path.fakes import NOW, WHO, HandClock

from headgate.admission.bounds import bound
from headgate.admission.budget import Hold
from headgate.admission.reserve import Reservations
from headgate.errors import QuotaExceeded
from headgate.http.parse import parse
from headgate.money.cost import cost
from headgate.money.tokens import Tokenizers
from headgate.process.counting import LocalCounter
from headgate.providers.registry import CODECS
from headgate.settle import believable
from headgate.values import Call, Target

CASES = int(os.environ.get("BOUND_CASES", "2000"))
COUNTER = LocalCounter(Tokenizers())
PLENTY = 10**15


def called(case: Case) -> Call:
    call = Call(bytes(16), case.operation, 0)  # type: ignore[arg-type]
    parse(msgspec.json.encode(case.body), call)
    call.principal = WHO
    return call


def held(call: Call, targets: tuple[Target, ...], cap: int) -> Hold:
    budgets = Funded(NOW, ("account", cap)).budgets
    return asyncio.run(Reservations(budgets, NothingMore(), HandClock(), COUNTER).reserve(call, targets))


def actual(case: Case, call: Call, to: Target, random: Random, part: float = 1.0) -> int:
    """Return the most that a target can charge, or a part of its output with all of its input."""
    sent = msgspec.json.decode(CODECS["openai"][call.operation].encode(call, to).body)
    given, window = input_tokens(case, to, random), to.model.context_window
    if case.operation == "chat" and window and given > window:
        return 0  # refused by the provider
    real = usage(given, int(output_tokens(case, to, sent) * part), random)
    assert believable(real, call, to)
    assert to.prices is not None
    return cost(real, to.prices)


def test_no_call_costs_more_than_its_hold(capsys):
    tight = full = 0
    ratios, partly = [], []
    for seed in range(CASES):
        case, random = draw(seed), Random(-seed - 1)
        call = called(case)
        hold = held(call, case.targets, PLENTY)
        for to in case.targets:
            spent = actual(case, call, to, random)
            assert spent <= hold.amount, (seed, to.model.name)
        if case.says_a_limit and call.max_output:
            first = case.targets[:1]
            ratios.append(bound(call, first) / max(1, actual(case, call, first[0], random)))
            partly.append(hold.amount / max(1, actual(case, call, first[0], random, part=random.random())))
        again, money = called(case), hold.amount * random.randint(20, 99) // 100
        try:
            hold = held(again, case.targets, money)
        except QuotaExceeded:
            full += 1
            continue
        tight += 1
        assert hold.amount <= money
        for to in case.targets:
            assert actual(case, again, to, random) <= hold.amount, (seed, to.model.name, "tight")
    with capsys.disabled():
        print(
            f"\n{CASES} calls: none above its hold; held/actual with a limit: median {median(ratios):.2f} at full "
            f"length, {median(partly):.2f} with part of it and all targets; under tight money {tight} fitted, "
            f"{full} did not"
        )
    assert tight > CASES // 20
    assert median(ratios) <= 5
    assert median(partly) <= 5
