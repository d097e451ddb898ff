"""What is held, counted, shrunk and sent under a cap."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from tests.leases.funded import Funded, NothingMore
from tests.path.fakes import NOW, WHO, HandClock

from headgate.admission import reserve
from headgate.admission.bounds import ASSUMED_BLINDLY, MIN_SHRUNK, bound, input_bound, rough_input
from headgate.admission.budget import Budgets, Hold
from headgate.admission.purse import Purse
from headgate.admission.reserve import Reservations
from headgate.errors import NotFound, QuotaExceeded, Unavailable
from headgate.http.parse import parse
from headgate.money.catalogue import Catalogue
from headgate.money.pots import BudgetTerms, Want
from headgate.money.tokens import Tokenizers
from headgate.process.counting import LocalCounter
from headgate.providers.registry import CODECS
from headgate.values import Book, Call, Host, Model, Prices, Target

pytestmark = pytest.mark.anyio
PRICES = Prices(
    input=1_000_000, output=2_000_000, cached_input=1_000_000, reasoning=2_000_000
)  # nano: 1,000 and 2,000 a token
CATALOGUE = Catalogue.load()
COUNTER = LocalCounter(Tokenizers())
ENGLISH = "The quick brown fox jumps over the lazy dog. " * 200


def call(operation: str = "chat", **members: object) -> Call:
    made = Call(bytes(16), operation, 0)  # type: ignore[arg-type]
    given = {"prompt": "Hello"} if operation == "completions" else {}
    if operation == "chat":
        given = {"messages": [{"role": "user", "content": "Hello"}]}
    parse(msgspec.json.encode({"model": "m"} | given | members), made)
    made.principal = WHO
    return made


def target(name: str = "gpt-4o", provider: str = "openai", prices: Prices | None = PRICES) -> Target:
    host = Host(name=provider, base_url="http://h")
    return Target(host=host, model=CATALOGUE.model(provider, name), prices=prices)


def unknown() -> Target:
    return Target(host=Host(name="h", base_url="http://h"), model=Model(name="mine"), prices=PRICES)


async def reserved(made: Call, *targets: Target, cap: int | None) -> Hold:
    budgets = Funded(NOW, *([("account", cap)] if cap is not None else ())).budgets
    return await Reservations(budgets, NothingMore(), HandClock(), COUNTER).reserve(made, targets)


def sent(made: Call, to: Target) -> dict[str, object]:
    return msgspec.json.decode(CODECS["openai"][made.operation].encode(made, to).body)


async def test_a_limit_that_nobody_keeps_is_sent_and_said_under_a_cap():
    made = call()
    hold = await reserved(made, unknown(), cap=10**12)
    assert sent(made, unknown())["max_tokens"] == ASSUMED_BLINDLY
    assert [(note.name, note.value) for note in made.notes] == [
        ("x-headgate-max-tokens", str(ASSUMED_BLINDLY))
    ]
    assert hold.amount < (ASSUMED_BLINDLY + 300) * 2_000


async def test_without_a_cap_no_default_is_ever_sent():
    for to in (unknown(), target(), target("gpt-3.5-turbo-instruct")):
        made = call("completions" if "instruct" in to.model.name else "chat")
        await reserved(made, to, cap=None)
        assert "max_tokens" not in sent(made, to)


async def test_what_the_provider_limits_itself_is_not_sent():
    made = call()
    await reserved(made, target(), cap=10**12)
    assert "max_tokens" not in sent(made, target())


async def test_tight_money_counts_the_input_instead_of_its_bytes():
    made = call(messages=[{"role": "user", "content": ENGLISH}], max_tokens=10)
    rough, by_bytes = rough_input(made), input_bound(made, target())
    exact = await COUNTER.input_tokens(made, target())
    assert by_bytes > 4 * exact
    hold = await reserved(made, target(), cap=(exact + 100) * 1_000)
    assert exact * 1_000 + 20_000 <= hold.amount <= (exact + 100) * 1_000
    assert rough_input(made) == rough, "the guess is still made of the bytes"


@pytest.mark.parametrize("cap", [None, 10**12, 2_200_000])
async def test_a_hold_for_one_target_knows_the_bound_of_the_input_that_it_rests_on(cap: int | None):
    made = call(messages=[{"role": "user", "content": ENGLISH}], max_tokens=10)
    hold = await reserved(made, target(), cap=cap)
    assert hold.given == input_bound(made, target()) > 0
    several = await reserved(made, target(), unknown(), cap=None)
    assert several.given == 0


async def test_an_estimate_never_lowers_a_bound():
    made = call(messages=[{"role": "user", "content": ENGLISH}], max_tokens=10)
    other = target("deepseek-chat", "deepseek")
    with pytest.raises(QuotaExceeded):
        await reserved(made, other, cap=len(ENGLISH) * 1_000)
    assert input_bound(made, other) > len(ENGLISH)


async def test_one_inexact_candidate_keeps_its_own_bound():
    made = call(messages=[{"role": "user", "content": ENGLISH}], max_tokens=10)
    other = target("deepseek-chat", "deepseek", Prices(input=1_000, output=2_000))
    hold = await reserved(made, target(), other, cap=3_000_000)
    assert hold.amount == bound(made, (target(), other))
    assert input_bound(made, other) > len(ENGLISH) > input_bound(made, target())


@pytest.mark.parametrize(
    "members",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ENGLISH}]}] * 3},
    ],
)
async def test_a_counted_bound_stays_above_the_count(members):
    made = call(max_tokens=1, **members)
    tokens = await COUNTER.input_tokens(made, target())
    with pytest.raises(QuotaExceeded):
        await reserved(made, target(), cap=1)
    assert made.counted is not None
    assert tokens <= input_bound(made, target())


async def test_unknown_members_are_never_counted_away():
    made = call(max_tokens=1, context="x" * 5_000)
    with pytest.raises(QuotaExceeded):
        await reserved(made, target(), cap=4_000_000)
    assert made.counted is None


async def test_an_unsaid_limit_shrinks_to_the_money_and_no_further_than_1024():
    made = call()
    await reserved(made, target(), cap=4_000_000)
    assert MIN_SHRUNK <= made.shrunk_to < 2_000
    with pytest.raises(QuotaExceeded, match="With max_tokens up to"):
        await reserved(call(), target(), cap=1_000_000)


async def test_a_completion_holds_16_tokens_and_sends_no_limit():
    host = Host(name="openai", base_url="http://h", completion_tokens=16)
    to = msgspec.structs.replace(target("gpt-3.5-turbo-instruct"), host=host)
    made = call("completions")
    hold = await reserved(made, to, cap=100_000)
    assert 32_000 <= hold.amount <= 100_000
    assert "max_tokens" not in sent(made, to)


async def test_zero_tokens_hold_the_input_only():
    made = call("completions", max_tokens=0, echo=True)
    hold = await reserved(made, target("gpt-3.5-turbo-instruct"), cap=10**9)
    assert hold.amount == input_bound(made, target("gpt-3.5-turbo-instruct")) * 1_000


async def test_an_unpriced_candidate_is_refused_under_a_cap_only():
    with pytest.raises(NotFound, match="no price"):
        await reserved(call(), target(prices=None), cap=10**9)
    assert (await reserved(call(), target(prices=None), cap=None)).amount == 0


async def test_money_between_two_candidates_limits_shrinks_to_the_smaller_one_at_once():
    long, short = target("o3"), target("gpt-4o")
    assert long.model.max_output > short.model.max_output > MIN_SHRUNK
    made = call()
    cap = bound(made, (long, short)) * 9 // 10  # the longer one's own limit does not fit
    hold = await reserved(made, long, short, cap=cap)
    assert made.shrunk_to == short.model.max_output
    assert hold.amount <= cap


async def test_other_units_are_held_for_and_no_grant_in_tokens_covers_them():
    made = call()
    made.max_output = 10
    made.units = (("image", 2),)
    painter = msgspec.structs.replace(
        target(), prices=Prices(input=1, output=1, more=(("image", 5_000_000),))
    )
    hold = await reserved(made, painter, cap=10**12)
    assert hold.amount == bound(made, (painter,)) >= 10_000
    with pytest.raises(QuotaExceeded):
        await reserved(made, painter, cap=9_999)


class Silence(NothingMore):
    """A teller whose store never answers."""

    trouble = ""

    async def take(self, want: Want, reserve: Callable[[], Hold | None]) -> Hold | None:
        await asyncio.Event().wait()
        raise AssertionError("nobody rings")


async def test_a_store_that_does_not_answer_is_not_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for money that nobody can say anything of has not spent it all."""
    monkeypatch.setattr(reserve, "WAIT_S", 0.05)
    budgets = Budgets(Purse("slot-0"))
    budgets.replace([BudgetTerms(1, "account", WHO.account, Book.REAL, 10**12, "month")])
    with pytest.raises(Unavailable, match="its database does not answer"):
        await Reservations(budgets, Silence(), HandClock(), COUNTER).reserve(call(), (target(),))
