"""What was used and what it cost: `client.admin.organization.usage`, from the books.

Buckets begin at multiples of their width since 1970; the first and the last are cut to what was asked for.
What no call here can be counted under yet (images, audio, ...) has empty buckets.
"""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from headgate.admin.amounts import BookName, book_of
from headgate.admin.table import Route
from headgate.errors import CallerError
from headgate.ops import usage
from headgate.records import BucketLine, BucketOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headgate.admin.office import Office
    from headgate.admin.table import Asked
    from headgate.records import Group

ROOT: Final = "/v1/organization/usage"
_WIDTHS: Final = {"1m": 60, "1h": 3600, "1d": 86_400}
R = TypeVar("R")
_LIMITS: Final = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}  # the usual one, and the most
_COST_LIMITS: Final = (7, 180)
_US: Final = 1_000_000
_GROUPS: Final[dict[str, Group]] = {
    "project_id": "project", "user_id": "member", "api_key_id": "key", "model": "model", "line_item": "model",
}  # fmt: skip
_SERVED: Final[dict[str, tuple[str, ...]]] = {
    "completions": ("chat", "completions"),
    "embeddings": ("embeddings",),
    "moderations": ("moderations",),
    "images": ("images", "image_edits", "image_variations"),
    "audio_speeches": ("speech",),
    "audio_transcriptions": ("transcriptions", "translations"),
}

Second = Annotated[int, Meta(ge=0, le=2**33)]
Ids = tuple[str, ...]
GroupName = Literal[
    "project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "api_source", "size", "source",
    "vector_store_id", "context_level",
]  # fmt: skip


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which stretch of time: in Unix seconds, the end not included. `book` is ours: real or play money."""

    start_time: Second
    end_time: Second | None = None
    limit: Annotated[int, Meta(ge=1, le=1440)] | None = None  # of buckets
    page: str = ""
    project_ids: Ids = ()
    user_ids: Ids = ()
    api_key_ids: Ids = ()
    book: BookName | None = None


class UsageQuery(Window, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which calls, in which buckets, by which groups."""

    bucket_width: Literal["1m", "1h", "1d"] = "1d"
    group_by: tuple[GroupName, ...] = ()
    models: Ids = ()
    batch: bool | None = None
    sizes: Ids = ()
    sources: Ids = ()
    vector_store_ids: Ids = ()
    context_levels: Ids = ()


class CostQuery(Window, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which costs, by which groups; a line item is a model."""

    bucket_width: Literal["1d"] = "1d"
    group_by: tuple[Literal["project_id", "user_id", "api_key_id", "line_item", "api_source"], ...] = ()
    line_items: Ids = ()


class UsageResult(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of the calls of one group. Groups that were not asked for are null."""

    object: str
    input_tokens: int
    num_model_requests: int
    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    model: str | None


class CompletionsResult(UsageResult, frozen=True, kw_only=True):
    """The same of calls that make text."""

    output_tokens: int
    input_cached_tokens: int
    input_cache_write_tokens: int
    input_uncached_tokens: int
    input_audio_tokens: int
    output_audio_tokens: int
    batch: bool | None
    service_tier: str | None = None


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """Money, exact."""

    value: Annotated[Decimal, Meta(extra_json_schema={"type": "number", "format": "double"})]
    currency: Literal["usd"] = "usd"


class CostResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the calls of one group cost."""

    object: Literal["organization.costs.result"] = "organization.costs.result"
    amount: Amount
    line_item: str | None
    project_id: str | None
    user_id: str | None
    api_key_id: str | None


class Bucket(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """The groups of one stretch of time."""

    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[R]


class BucketPage(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """Some buckets, and where the next ones are."""

    object: Literal["page"] = "page"
    data: list[Bucket[R]]
    has_more: bool
    next_page: str | None


class Stretch(msgspec.Struct, frozen=True):
    """One page of a window: seconds, the end not included."""

    start: int
    stop: int
    end: int  # of the window
    width: int

    @property
    def next_page(self) -> str | None:
        """Return how the page after this one is asked for."""
        return f"page_{self.stop:x}" if self.stop < self.end else None

    def buckets(self) -> Iterable[tuple[int, int]]:
        """Yield where each bucket begins and ends."""
        at = self.start
        while at < self.stop:
            following = min((at // self.width + 1) * self.width, self.stop)
            yield at, following
            at = following


def stretch(query: Window, width: int, limits: tuple[int, int], now: int) -> Stretch:
    """Return the page that a query asks for.

    Raises:
        CallerError: the window, the limit or the page is none; `param` names it.
    """
    start, end = query.start_time, query.end_time
    if end is None:
        end = max(now, start + 1)
    if end <= start:
        raise CallerError("end_time must be later than start_time.", param="end_time", code="invalid_value")
    usual, most = limits
    limit = usual if query.limit is None else query.limit
    if limit > most:
        raise CallerError(f"limit must be between 1 and {most} here.", param="limit", code="invalid_value")
    if query.page:
        start = _page_start(query.page, start, end)
    stop = min((start // width + limit) * width, end)
    return Stretch(start, stop, end, width)


def _page_start(page: str, start: int, end: int) -> int:
    kind, _, number = page.partition("_")
    try:
        at = int(number, 16) if kind == "page" and len(number) <= 12 else -1
    except ValueError:
        at = -1
    if not start <= at < end:
        raise CallerError("page is none of this window.", param="page", code="invalid_value")
    return at


def _lines(office: Office, asked: Asked, part: Stretch, **more: Any) -> list[BucketLine]:
    query = asked.query
    order = BucketOrder(
        since=part.start * _US,
        until=part.stop * _US,
        width_us=part.width * _US,
        book=book_of(query.book),
        accounts=(asked.organization,) if asked.organization else (),
        projects=query.project_ids,
        members=query.user_ids,
        keys=query.api_key_ids,
        groups=tuple(dict.fromkeys(_GROUPS[name] for name in query.group_by if name in _GROUPS)),
        **more,
    )
    return usage.buckets(asked.actor, office.reports, order)


def _page(part: Stretch, lines: list[BucketLine], shown: Callable[[BucketLine], R]) -> BucketPage[R]:
    found: dict[int, list[R]] = {}
    for line in lines:
        found.setdefault(line.at // _US, []).append(shown(line))
    return BucketPage(
        data=[
            Bucket(start_time=start, end_time=end, results=found.get(start // part.width * part.width, []))
            for start, end in part.buckets()
        ],
        has_more=part.next_page is not None,
        next_page=part.next_page,
    )


def _named(line: BucketLine) -> dict[str, str | None]:
    return {
        "project_id": line.project or None, "user_id": line.member or None, "api_key_id": line.key or None,
    }  # fmt: skip


def _usage(kind: str) -> Callable[[Office, Asked], BucketPage[Any]]:
    """Return the handler of one kind of usage."""
    operations = _SERVED.get(kind)
    shown: Callable[[BucketLine, bool], UsageResult] = _completions
    if kind != "completions":
        shown = partial(_tokens, kind)

    def handle(office: Office, asked: Asked) -> BucketPage[Any]:
        query = asked.query
        now = office.desk.clock.wall() // _US + 1
        part = stretch(query, _WIDTHS[query.bucket_width], _LIMITS[query.bucket_width], now)
        # What is not served is asked for too: whoever may not see usage is refused here as well.
        lines = _lines(office, asked, part, models=query.models, operations=operations or ("none",))
        if query.batch:  # no call is of a batch
            lines = []
        by_batch = "batch" in query.group_by
        return _page(part, lines, lambda line: shown(line, by_batch))

    return handle


def _tokens(kind: str, line: BucketLine, _by_batch: bool) -> UsageResult:
    return UsageResult(
        object=f"organization.usage.{kind}.result",
        input_tokens=line.input_tokens,
        num_model_requests=line.calls,
        model=line.model or None,
        **_named(line),
    )


def _completions(line: BucketLine, by_batch: bool) -> CompletionsResult:
    return CompletionsResult(
        object="organization.usage.completions.result",
        input_tokens=line.input_tokens,
        output_tokens=line.output_tokens,
        num_model_requests=line.calls,
        input_cached_tokens=line.cached_tokens,
        input_cache_write_tokens=line.cache_write_tokens,
        input_uncached_tokens=line.input_tokens - line.cached_tokens - line.cache_write_tokens,
        input_audio_tokens=line.input_audio_tokens,
        output_audio_tokens=line.output_audio_tokens,
        model=line.model or None,
        batch=False if by_batch else None,
        **_named(line),
    )


def _costs(office: Office, asked: Asked) -> BucketPage[CostResult]:
    query = asked.query
    part = stretch(query, _WIDTHS["1d"], _COST_LIMITS, office.desk.clock.wall() // _US + 1)
    return _page(part, _lines(office, asked, part, models=query.line_items), _cost)


def _cost(line: BucketLine) -> CostResult:
    amount = Amount(value=Decimal(line.cost_nano_usd).scaleb(-9))
    return CostResult(
        amount=amount,
        line_item=line.model or None,
        project_id=line.project or None,
        user_id=line.member or None,
        api_key_id=line.key or None,
    )


_ANSWERS: Final[dict[str, Any]] = {"completions": BucketPage[CompletionsResult]}
KINDS: Final = (
    "completions", "embeddings", "moderations", "images", "audio_speeches", "audio_transcriptions",
    "vector_stores", "code_interpreter_sessions", "file_search_calls", "web_search_calls", "decisions",
)  # fmt: skip
ROUTES: Final = (
    *(
        Route(
            method="GET", path=f"{ROOT}/{kind}", permission="usage.read",
            summary=f"Read usage: {kind.replace('_', ' ')}", handle=_usage(kind),
            answer=_ANSWERS.get(kind, BucketPage[UsageResult]), query=UsageQuery,
        )
        for kind in KINDS
    ),
    Route(
        method="GET", path="/v1/organization/costs", permission="usage.read", summary="Read costs",
        handle=_costs, answer=BucketPage[CostResult], query=CostQuery,
    ),
)  # fmt: skip
