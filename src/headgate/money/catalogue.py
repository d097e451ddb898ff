"""What is known of models: context windows, output limits, tokenizers, dimensions.

OpenAI's models are listed one by one in `data/models.json`, other makers' by the beginning of
their names; a window that only the price data knows is taken from there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.money.cards import cards
from headgate.money.pricedata import DATA, PriceData
from headgate.values import Model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.values import Holding, Host, Pairs

_ANY: Final = ("chat", "completions", "embeddings")
_NEEDED: Final[dict[Holding, str]] = {  # what a card says of a model that can do with it
    "images": "image", "audio": "audio", "files": "file", "tools": "tools", "schema": "schema",
}  # fmt: skip
_DATE = re.compile(r"[-@](20\d\d-\d\d-\d\d|20\d{6}|\d{4}|latest)$")
_PLACE = re.compile(r"^(?:[a-z-]+\.){1,2}(?=[a-z])")  # a cloud's region and maker: `us.anthropic.claude-…`
_EMBEDS = re.compile(r"embed|^(bge|gte|e5)-|^all-minilm")


class _Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    dates: tuple[str, ...] = ()  # its dated snapshots
    window: int = 0
    output: int = 0
    tokenizer: str = ""
    exact: bool = True
    reasons: bool = False
    image: int = 0
    dimensions: int = 0
    operations: tuple[str, ...] = ("chat",)
    retired: bool = False  # answers to no one today, so it is not listed


class _File(msgspec.Struct, frozen=True):
    families: tuple[_Profile, ...]
    makers: tuple[_Profile, ...]


class Catalogue:
    """The models that are known, and an answer for those that are not.

    Args:
        content: the profiles, JSON.
        data: the shipped prices, for the windows and names of other providers.
    """

    def __init__(self, content: bytes, data: PriceData) -> None:
        file = msgspec.json.decode(content, type=_File)
        self._families = {profile.name: profile for profile in file.families}
        self._makers = sorted(file.makers, key=lambda profile: -len(profile.name))
        self._data = data

    @classmethod
    def load(cls, data: PriceData | None = None) -> Catalogue:
        """Read the profiles that are shipped with the package."""
        return cls((DATA / "models.json").read_bytes(), data or PriceData.load())

    def model(self, provider: str, name: str) -> Model:
        """Return what is known of a model at a provider; zeros where nothing is.

        Args:
            provider: by its usual name, such as `openai` or `deepseek`.
            name: as the provider knows it; a dated snapshot counts as its family, a fine-tuned
                model as its base, and a maker's prefix (`openai/gpt-4o`) is looked through.
        """
        provider_id = self._data.provider_id(provider) or provider
        family = self._family(_bare(name))
        if family is not None:
            return self._known(name, family, family.window, provider_id)
        window = self._window(provider_id, name)
        maker = self._maker(_bare(name))
        if maker is not None:
            # The price data is behind on some windows, and a model may be newer than its row
            # here; too small a window would refuse what fits.
            known = msgspec.structs.replace(maker, exact=False)
            return self._known(name, known, max(window, maker.window), provider_id)
        operations = ("embeddings",) if _EMBEDS.search(_bare(name)) else _ANY
        return Model(name=name, context_window=window, operations=operations)

    def _known(self, name: str, profile: _Profile, window: int, provider_id: str) -> Model:
        return Model(
            name=name,
            context_window=window,
            max_output=profile.output,
            tokenizer=profile.tokenizer,
            exact=bool(profile.tokenizer) and profile.exact and self._sells_openai(provider_id),
            wants_max_completion_tokens=profile.reasons,
            dimensions=profile.dimensions,
            image_tokens=profile.image,
            operations=profile.operations,
        )

    def _sells_openai(self, provider_id: str) -> bool:
        """Say whether a model of OpenAI's name is OpenAI's model, so that its tokenizer is known for sure."""
        if provider_id not in self._data.providers:
            return False
        return "openai" in {provider_id, *self._data.provider(provider_id).fallback}

    def names(self, provider: str) -> tuple[str, ...]:
        """Return the current models that a provider offers, for `GET /v1/models`."""
        provider_id = self._data.provider_id(provider)
        if provider_id == "openai":
            return tuple(self._openai_names())
        models = self._data.provider(provider_id).models if provider_id else ()
        found = {row.id.lower(): row.id for row in models if row.current and row.rows}
        for card in cards().made_by(provider):
            spoken = "text" in card.takes.split() and card.gives in {"text", "embedding"}
            if spoken or (card.gives == "video" and "videos" in self.model(provider, card.name).operations):
                found.setdefault(card.name.lower(), card.name)
        return tuple(found.values())

    @staticmethod
    def end(host: Host, name: str) -> tuple[str, Pairs]:
        """Return the day on which a model is shut down there, and the response headers that say so."""
        card = cards().find(host.name, name, host.base_url)
        return (card.shutdown, card.notice()) if card is not None else ("", ())

    @staticmethod
    def cannot(host: Host, name: str) -> tuple[Holding, ...]:
        """Return what a model cannot do with by its card; nothing where it has none."""
        card = cards().find(host.name, name, host.base_url)
        if card is None:
            return ()
        can = {*card.takes.split(), *card.can.split()}
        return tuple(holding for holding, needed in _NEEDED.items() if needed not in can)

    def _openai_names(self) -> Iterable[str]:
        for profile in self._families.values():
            if not profile.retired:
                yield profile.name
                yield from (f"{profile.name}-{date}" for date in profile.dates)

    def _family(self, name: str) -> _Profile | None:
        return self._families.get(name) or self._families.get(_DATE.sub("", name))

    def _maker(self, name: str) -> _Profile | None:
        return next((row for row in self._makers if name.startswith(row.name)), None)

    def _window(self, provider_id: str, name: str) -> int:
        found = self._data.model(provider_id, name)
        return 0 if found is None else found[1].context_window


def _bare(name: str) -> str:
    """Return a model's own name: without its maker, its variant, and what was tuned on it."""
    name = name.lower().removeprefix("ft:").rpartition("/")[2]
    name = _PLACE.sub("", name.partition(":")[0])
    return name.replace("gpt-35-", "gpt-3.5-")  # as Azure spells it
