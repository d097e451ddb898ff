"""What is so in a world, whatever its workers and its books believe: caps, grants, and what calls spend of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from headgate.admission.budget import Hold
from headgate.values import Principal


@dataclass
class Cap:
    """A budget as people set it."""

    id: int
    scope: str
    ref: int
    unit: str
    history: list[tuple[float, int]]  # when, and how much

    def covers(self, who: Principal) -> bool:
        return {"key": who.key, "project": who.project, "account": who.account}[self.scope] == self.ref

    def most(self, since: float) -> int:
        """Return the largest amount in force at any time since then."""
        before = [amount for at, amount in self.history if at <= since][-1:]
        return max(before + [amount for at, amount in self.history if at > since])


@dataclass(eq=False)
class Spent:
    """A call as the truth has it: held, then charged."""

    who: Principal
    hold: Hold
    amount: int  # the hold, then the charge
    paid: dict[int, int] = field(default_factory=dict)  # by grant, of the same
    settled: bool = False


@dataclass(frozen=True)
class Given:
    """A grant as people gave it."""

    amount: int
    until: int


@dataclass(eq=False)
class Waiting:
    """A call that wants money: the least that was free in truth all the while."""

    who: Principal
    amount: int
    least_free: int
