"""What a settlement books: the entries of the ledger, and the settlement of a call that was cut. Pure.

One entry is one row with a debit and a credit account, so a row that exists is balanced:

==============  =================  ==================  ==============================================
kind            debit              credit              amount
==============  =================  ==================  ==============================================
settlement      credit:<account>   revenue             what the customer pays
settlement      grant:<id>         revenue             the same when prepaid; one entry per source of the hold
settlement      promotion          revenue             what a grant in tokens covers; the house pays
tokens          tokens:<id>        tokens:used         the tokens that it lost; the amount is in tokens
provider cost   cost               payable:<provider>  what an attempt costs us; one entry per attempt
absorbed        house:absorbed     revenue             what was above the hold; the house pays
posting         cash:<source>      grant:<id>          a paid top-up; a refund the other way round
posting         cash:<source>      debt:<account>      what of it pays a debt back; made the other way round
posting         promotion          grant:<id>          a gift
posting         grant:<id>         expired             what was left when it expired
posting         adjustments        grant:<id>          a correction; below zero the other way round
posted tokens   tokens:issued      tokens:<id>         a gift in tokens; expiry and correction likewise
==============  =================  ==================  ==============================================

An amount of zero makes no entry. The entries of a posting have its id as their `call`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from headgate.money.cost import cost, worth
from headgate.money.credit import in_tokens, taken, tokens_taken
from headgate.ports import Lost, Settle
from headgate.values import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.ports import Mark, Open, Source
    from headgate.values import NanoUSD, Prices, WallMicros

SETTLEMENT, PROVIDER_COST, ABSORBED, TOKENS, POSTING, POSTED_TOKENS = 1, 2, 3, 4, 5, 6
REVENUE: Final = "revenue"
PROMOTION: Final = "promotion"
CHECKPOINT_TOKENS: Final = 256  # a stream is marked at least this often
CUT: Final = 500  # the status of a call that ended with our process


Entry: TypeAlias = tuple[int, int, int, str, str, int]  # kind, attempt, n, debit, credit, nano-USD


def entries(opens: Sequence[Open], settle: Settle) -> list[Entry]:
    """Return the entries of a settled call.

    Args:
        opens: its attempts in order, at least one.
        settle: its settlement; `costs` are by attempt number.
    """
    attempt = settle.attempt
    sources = opens[-1].sources
    booked: list[Entry] = []
    if sources:
        booked = _by_source(sources, settle)
    elif settle.charge:
        booked.append((SETTLEMENT, attempt, 0, f"credit:{opens[-1].account}", REVENUE, settle.charge))
    for number, amount in enumerate(settle.costs):
        if amount:
            provider = provider_of(opens, number)
            booked.append((PROVIDER_COST, number, 0, "cost", f"payable:{provider}", amount))
    if settle.absorbed:
        booked.append((ABSORBED, attempt, 0, "house:absorbed", REVENUE, settle.absorbed))
    return booked


def is_plain(opens: Sequence[Open], settle: Settle) -> bool:
    """Say whether a call books its charge and the cost of its one attempt, and has nothing else to tell.

    Nearly all do. Where account, grant and provider are the same, only the amounts of their entries differ.
    """
    if len(opens) != 1 or settle.attempt or settle.lost or settle.usage.more:
        return False
    opened, charge, costs, sources = opens[0], settle.charge, settle.costs, opens[0].sources
    if opened.parent or opened.replay_of or settle.absorbed or settle.promoted or settle.tokens:
        return False
    if not charge or len(costs) != 1 or not costs[0]:
        return False
    return not sources or (len(sources) == 1 and not sources[0].tokens and charge <= sources[0].amount)


def _by_source(sources: Sequence[Source], settle: Settle) -> list[Entry]:
    """Return what a prepaid call takes: money of its grants, or tokens and the house's money."""
    attempt = settle.attempt
    parts = taken(sources, settle.charge, settle.tokens)
    if not in_tokens(sources):
        return [
            (SETTLEMENT, attempt, part.n, f"grant:{part.source.grant}", REVENUE, part.amount)
            for part in parts
        ]
    booked: list[Entry] = []
    if settle.promoted:
        booked.append((SETTLEMENT, attempt, 0, PROMOTION, REVENUE, settle.promoted))
    booked.extend(
        (TOKENS, attempt, part.n, f"tokens:{part.source.grant}", "tokens:used", part.amount) for part in parts
    )
    return booked


class Posting(NamedTuple):
    """A movement of credit that is no call: internal ids. Money is nano-USD."""

    id: bytes  # UUIDv7: the `call` of its entries
    book: int
    account: int
    grant: int  # 0: all of it is owed
    kind: str
    reference: str  # source:name, unique
    amount: NanoUSD = 0  # added to the grant; below zero: taken from it
    tokens: int = 0  # the same of a grant in tokens
    debt: NanoUSD = 0  # added to what the account owes; below zero: paid back
    actor: str = ""
    note: str = ""
    at: WallMicros = 0


_OTHER_SIDE: Final = {"grant": PROMOTION, "expiry": "expired", "adjustment": "adjustments"}
_OTHER_TOKENS: Final = {"grant": "tokens:issued", "expiry": "tokens:expired", "adjustment": "tokens:adjusted"}


def posting_entries(posting: Posting) -> list[Entry]:
    """Return the entries of a posting."""
    kind, grant = posting.kind, f"grant:{posting.grant}"
    cash = f"cash:{posting.reference.partition(':')[0]}"
    moves = [
        (POSTING, 0, _OTHER_SIDE.get(kind, cash), grant, posting.amount),
        (POSTING, 1, f"debt:{posting.account}", cash, posting.debt),
    ]
    if posting.tokens:
        moves.append((POSTED_TOKENS, 0, _OTHER_TOKENS[kind], f"tokens:{posting.grant}", posting.tokens))
    return [
        (what, 0, n, debit, credit, amount) if amount > 0 else (what, 0, n, credit, debit, -amount)
        for what, n, debit, credit, amount in moves
        if amount
    ]


def provider_of(opens: Sequence[Open], attempt: int) -> str:
    """Return who served an attempt; of one that was never opened, who served the last."""
    for opened in opens:
        if opened.attempt == attempt:
            return opened.provider
    return opens[-1].provider


def cut_short(opens: Sequence[Open], mark: Mark | None, at: WallMicros, *, absorb_unmarked: bool) -> Settle:
    """Return the settlement of a call whose process died before it could settle.

    With a mark: what it says plus one checkpoint, since a stream may have run that far beyond it. Where two
    attempts were open at once a mark says which of them answered.
    Without: the whole hold, and the tokens that it stands for. Never above the hold, so that a cap
    holds through a crash.

    Args:
        opens: the attempts in order, at least one; what the others cost is noted in the last.
        mark: the last one.
        at: when this was found out.
        absorb_unmarked: the house pays for a call without a mark; it always does for a prepaid one, and for
            one of a batch, whose line is run again.
    """
    last, lost = _answering(opens, mark)
    absorbed = promoted = tokens = 0
    if mark is not None and mark.attempt == last.attempt:
        seen = mark.usage
        made = seen.output_tokens + CHECKPOINT_TOKENS
        usage = Usage(seen.input_tokens or last.input_bound, made, more=last.units)
        charge = min(cost(usage, last.prices), last.hold) if last.prices is not None else 0
        until = mark.at
        if in_tokens(last.sources):
            charge, promoted, tokens = 0, charge, tokens_taken(last.sources, usage)
    else:
        usage, charge = Usage(last.input_bound, 0, more=last.units), 0
        if last.prices is not None:
            usage = worth(last.input_bound, last.hold, last.prices, last.units)
            charge = min(cost(usage, last.prices), last.hold)
        until = last.at
        if absorb_unmarked or last.sources or last.purse:
            charge, absorbed = 0, charge
    costs = {opened.attempt: opened.costs for opened in opens}
    used = {each.attempt: each.usage for each in lost} | {last.attempt: usage}
    return Settle(
        last.call,
        last.attempt,
        at,
        CUT,
        usage,
        charge,
        absorbed,
        tuple(_cost(used.get(number), costs.get(number)) for number in range(opens[-1].attempt + 1)),
        estimated=True,
        duration_us=max(0, until - opens[0].at),
        promoted=promoted,
        tokens=tokens,
        lost=lost,
    )


def _answering(opens: Sequence[Open], mark: Mark | None) -> tuple[Open, tuple[Lost, ...]]:
    """Return the attempt that a call is settled by, and what the others lost."""
    last = opens[-1]
    marked = next((each for each in opens if mark is not None and each.attempt == mark.attempt), last)
    if marked is last:
        return last, last.lost
    rest = [each for each in last.lost if each.attempt != marked.attempt]
    return marked, (*rest, Lost(last.attempt, Usage(last.input_bound, 0, more=last.units), estimated=True))


def _cost(usage: Usage | None, prices: Prices | None) -> NanoUSD:
    return cost(usage, prices) if usage is not None and prices is not None else 0
