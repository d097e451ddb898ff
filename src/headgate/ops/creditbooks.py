"""What the operations on credit ask of the books, inside one transaction. Ids are public."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headgate.money.terms import Terms
    from headgate.money.tiers import Tier
    from headgate.records import CodeRecord, GrantRecord, PaymentRecord, PostingRecord
    from headgate.values import Book, NanoUSD, WallMicros


class CreditBooks(Protocol):
    """Grants, postings, codes and payments. What must happen once is asked and done in one statement.

    Raises:
        LookupError: from a method that is given a public id that does not exist.
    """

    def posted(self, reference: str) -> PostingRecord | None:
        """Return the posting of a reference."""
        ...

    def give(self, grant: GrantRecord, posting: PostingRecord) -> GrantRecord:
        """Make a grant and put into it what the posting says."""
        ...

    def top_up(self, posting: PostingRecord) -> PostingRecord:
        """Put a payment into the balance, after what the account owes."""
        ...

    def add(self, posting: PostingRecord) -> PostingRecord:
        """Book a posting to the grant that it names; the caller has made sure that it fits."""
        ...

    def balance(self, account: str, book: Book, at: WallMicros) -> str:
        """Return the grant that top-ups of an account fill; made where there is none."""
        ...

    def free(self, grant: str) -> int:
        """Return what of a grant is neither spent nor in the hands of a worker."""
        ...

    def out(self, grant: str) -> int:
        """Return what of a grant is in the hands of workers."""
        ...

    def recall(self, grant: str) -> None:
        """Ask the workers for what they have of a grant and do not hold."""
        ...

    def owed(self, account: str, book: Book) -> NanoUSD:
        """Return what an account owes."""
        ...

    def paid(self, account: str) -> NanoUSD:
        """Return what an account has paid in real money, less what went back."""
        ...

    def refunded(self, account: str, prefix: str) -> NanoUSD:
        """Return what was given back of one payment: by postings whose references begin like this."""
        ...

    def claim_code(self, digest: bytes, account: str, at: WallMicros) -> CodeRecord | None:
        """Redeem a code for an account; None where it is unknown, used, revoked or expired."""
        ...

    def code(self, digest: bytes) -> CodeRecord | None:
        """Return a code by what is stored of its text."""
        ...

    def claim_event(self, payment: PaymentRecord) -> bool:
        """Note an event of a payment provider; False when it was noted before."""
        ...

    def payment(self, event: str) -> PaymentRecord | None:
        """Return what came of an event."""
        ...

    @property
    def prepaid(self) -> bool:
        """Say whether new accounts are prepaid: the mode of the last server."""
        ...

    def open_prepaid(self, account: str, terms: Terms, tiers: Sequence[Tier], at: WallMicros) -> None:
        """Make an account prepaid: with the sign-up grant in each book, once, and the first tier."""
        ...

    def promote(self, account: str, tiers: Sequence[Tier], at: WallMicros) -> str:
        """Give an account the tier that it has earned; return its name, or nothing when it stays."""
        ...

    def put_tier_budget(self, account: str, cap: NanoUSD, at: WallMicros) -> None:
        """Make the budgets that come with a tier what the tier says: so much per month; 0: none."""
        ...

    def put_limit(self, account: str, limit: Mapping[str, int | str], origin: str, at: WallMicros) -> None:
        """Put a limit of an account in place of the one of the same model."""
        ...
