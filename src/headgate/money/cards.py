"""What people want to know of models beyond what serving needs: modalities, abilities, dates of their end.

`data/cards.json` says where its facts are from. What serving needs (windows, tokenizers) is in
`money/catalogue.py`; a card fills in only what that does not know. Dates are a maker's own: who resells
a model, or runs its weights, ends it when he likes.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.money.pricedata import DATA, day_micros

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.values import Pairs, WallMicros

MODALITIES: Final = ("text", "image", "audio", "video", "file", "embedding", "scores")
ABILITIES: Final = ("tools", "parallel_tools", "schema", "reasoning", "cache", "search")

_DATE = re.compile(r"[-@](20\d\d-\d\d-\d\d|20\d{6}|\d{4}|latest)$")
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Maker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who makes models, and where he tells of them."""

    at: tuple[str, ...]  # the names of his own API: of our hosts, and in the price book
    url: str


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The page that dates are from."""

    url: str
    read: str  # when: a year and a month
    at: tuple[str, ...]  # where they hold: names of our hosts, and in the price book
    hosts: tuple[str, ...]  # the same by the beginnings of URLs, which say it better


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"takes": "in", "gives": "out"}):
    """What is known of one model. Days are ISO dates; empty or 0: not known."""

    name: str
    by: str  # its maker
    takes: str  # modalities, separated by blanks
    gives: str
    can: str = ""  # abilities, separated by blanks
    window: int = 0  # tokens
    output: int = 0  # tokens, at most
    deprecated: str = ""  # the day on which its end was announced
    shutdown: str = ""  # the day from which it answers no one
    instead: str = ""  # what its maker recommends
    source: str = ""  # of the days

    def ended(self, now: WallMicros) -> bool:
        """Say whether its maker has shut it down."""
        return bool(self.shutdown) and day_micros(self.shutdown) <= now

    def doomed(self, now: WallMicros) -> bool:
        """Say whether its end is announced, or has come."""
        return bool(self.shutdown) or (bool(self.deprecated) and day_micros(self.deprecated) <= now)

    def notice(self) -> Pairs:
        """Return response headers that tell of its end, by RFC 9745 and RFC 8594, and what to use instead."""
        rows: list[tuple[str, str]] = []
        if self.deprecated:
            rows.append(("deprecation", f"@{day_micros(self.deprecated) // 1_000_000}"))
        if self.shutdown:
            rows.append(("sunset", _http_date(date.fromisoformat(self.shutdown))))
        if rows and self.instead:
            rows.append(("x-headgate-use-instead", self.instead))
        return tuple(rows)


def _http_date(day: date) -> str:
    month = _MONTHS[day.month - 1]
    return f"{_WEEKDAYS[day.weekday()]}, {day.day:02d} {month} {day.year} 00:00:00 GMT"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    facts: str
    makers: dict[str, Maker]
    sources: dict[str, Source]
    cards: tuple[Card, ...]


class Cards:
    """All cards, by the names of models.

    Args:
        content: the data file, JSON.
    """

    def __init__(self, content: bytes) -> None:
        file = msgspec.json.decode(content, type=_File)
        self.facts = file.facts  # where all but the days are from
        self.makers = file.makers
        self.sources = file.sources
        self._all = file.cards
        self._by_name = {card.name.lower(): card for card in file.cards}

    def find(self, provider: str, name: str, base_url: str = "") -> Card | None:
        """Return a model's card; without its days where they do not hold.

        Args:
            provider: of whom the model is asked, by the name of our host or of the price book.
            name: as he calls it; a snapshot counts as its family, a maker's prefix is looked through.
            base_url: where he is asked, if that is known; then his name says nothing of the days.
        """
        bare = name.lower().removeprefix("ft:").partition(":")[0].rpartition("/")[2]
        card = self._by_name.get(bare) or self._by_name.get(_DATE.sub("", bare))
        if card is None:
            return None
        source = self.sources.get(card.source)
        if source is None or (f"{base_url}/".startswith(source.hosts) if base_url else provider in source.at):
            return card
        return msgspec.structs.replace(card, deprecated="", shutdown="", instead="", source="")

    def made_by(self, provider: str) -> Iterable[Card]:
        """Yield the models that a provider makes himself."""
        makers = {name for name, maker in self.makers.items() if provider in maker.at}
        return (card for card in self._all if card.by in makers)


@lru_cache(1)
def cards() -> Cards:
    """Return the cards that are shipped with the package, read once and only when somebody asks."""
    return Cards((DATA / "cards.json").read_bytes())
