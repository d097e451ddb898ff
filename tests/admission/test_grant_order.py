"""A worker spends grants in their order, also those that were made after it took others."""

from headgate.admission.budget import Budgets
from headgate.admission.purse import Purse
from headgate.money.credit import Need
from headgate.money.pots import GrantTerms, Lot
from headgate.values import Book, Principal

WHO = Principal(key=1, project=2, account=3, prepaid=True)
NEED = Need("gpt-4o", 40, 10)
NOW = 1_000


class Worker:
    """A single worker; `grants` are in the order in which they are spent."""

    def __init__(self, *grants: GrantTerms) -> None:
        self.purse = Purse("slot-0")
        self.budgets = Budgets(self.purse)
        self.learn(*grants)

    def learn(self, *grants: GrantTerms) -> None:
        """Read the grants anew, as after every change."""
        self.purse.doubt()
        self.budgets.replace([], grants)

    def take(self, grant: int, amount: int) -> None:
        """Have the store say that it has given so much of a grant, and has no more."""
        for own in self.budgets.covering(WHO).grants:
            if own.name.ref == grant:
                self.purse._take(Lot(own.name, grant, amount, 0, 0, 0, 0, 0))

    def spend(self, need: Need = NEED) -> list[int] | None:
        """Hold what a call needs; return from which grants, None where the store must be asked."""
        hold = self.budgets.reserve(self.budgets.covering(WHO), need.amount, NOW, need)
        return None if hold is None else [source.grant for source in hold.sources]


def grant(number: int, model: str = "", expires_at: int = 0) -> GrantTerms:
    return GrantTerms(number, WHO.account, Book.REAL, model, expires_at)


def test_a_new_grant_that_expires_first_is_asked_for_before_the_balance_is_spent() -> None:
    worker = Worker(grant(1))
    worker.take(1, 1_000)
    assert worker.spend() == [1]
    worker.learn(grant(2, expires_at=NOW + 5), grant(1))
    assert worker.spend() is None  # there may be something in the new one
    worker.take(2, 50)
    worker.take(1, 0)
    assert worker.spend() == [2]
    assert worker.spend() == [2, 1]  # the store has said that there is no more of it


def test_new_tokens_are_asked_for_before_money_is_spent_where_they_are_of_the_model() -> None:
    worker = Worker(grant(1))
    worker.take(1, 1_000)
    worker.learn(grant(3, "claude-*"), grant(2, "gpt-*"), grant(1))
    assert worker.spend() is None
    worker.take(2, 19)
    worker.take(1, 0)
    assert [worker.spend(), worker.spend()] == [[2], [1]]


def test_where_tokens_cover_a_call_no_money_is_asked_for() -> None:
    worker = Worker(grant(2, "gpt-*"), grant(1))
    worker.take(2, 19)  # of the money it knows nothing
    assert worker.spend() == [2]
    assert worker.spend() is None


def test_a_call_with_other_units_asks_for_no_tokens() -> None:
    worker, pictures = Worker(grant(2, "gpt-*"), grant(1)), Need("gpt-4o", 40, 10, only_tokens=False)
    worker.take(2, 19)
    assert worker.spend(pictures) is None
    assert worker.budgets.want(worker.budgets.covering(WHO), 40, pictures).tokens == 0
    worker.take(1, 1_000)
    assert worker.spend(pictures) == [1]


def test_a_fee_for_no_tokens_at_all_is_paid_with_money() -> None:
    worker, fee = Worker(grant(2, "gpt-*"), grant(1)), Need("gpt-4o", 40, 0)
    worker.take(2, 1_000)
    assert worker.spend(fee) is None
    worker.take(1, 1_000)
    assert worker.spend(fee) == [1]
    tokens, money = worker.budgets.covering(WHO).grants
    assert (tokens.free, money.free) == (1_000, 960)


def test_what_is_known_to_be_empty_is_not_asked_for_again() -> None:
    worker = Worker(grant(2, expires_at=NOW + 5), grant(1))
    worker.take(2, 0)
    worker.take(1, 1_000)
    assert worker.spend() == [1]
