from collections.abc import Iterator

import msgspec
import pytest

from headgate.errors import CallerError, NotFound, PermissionRefused
from headgate.identity.roles import PROJECT_ROLES, ROLES
from headgate.ops.actors import LOCAL, Actor
from headgate.ops.usage import calls, usage
from headgate.records import CallLine, UsageLine, UsageOrder
from headgate.values import Book


class FakeReports:
    """Calls in memory, one list for each book."""

    def __init__(self, real: int, sim: int) -> None:
        self.asked = UsageOrder()
        self.counts = {Book.REAL: real, Book.SIM: sim}

    def books(self, order: UsageOrder) -> frozenset[Book]:
        del order
        return frozenset(book for book, count in self.counts.items() if count)

    def calls(self, order: UsageOrder) -> Iterator[CallLine]:
        assert order.book is not None
        for number in range(self.counts[order.book]):
            yield CallLine(
                request_id=f"req_{number}",
                opened_at="2026-11-23T00:00:00Z",
                book=order.book.label,
                account="acct_1",
                project="proj_1",
                member="",
                key="key_1",
                provider="openai",
                model="m",
                operation="chat",
                status=200,
                input_tokens=3,
                output_tokens=4,
                cached_tokens=0,
                cost_nano_usd=5,
                estimated=False,
                recovered=False,
                duration_us=6,
            )

    def sums(self, order: UsageOrder) -> list[UsageLine]:
        self.asked = order
        return [
            UsageLine(name=str(number), calls=1, input_tokens=3, cost_nano_usd=5)
            for number, _ in enumerate(self.calls(order))
        ]

    def place(self, kind: str, ref: str) -> tuple[str, str] | None:
        return {
            ("project", "proj_1"): ("acct_1", "proj_1"),
            ("project", "proj_2"): ("acct_1", "proj_2"),
            ("project", "proj_9"): ("acct_9", "proj_9"),
            ("key", "key_1"): ("acct_1", "proj_1"),
            ("key", "key_2"): ("acct_1", "proj_2"),
            ("key", "key_9"): ("acct_9", "proj_9"),
            ("member", "user_1"): ("acct_1", ""),
            ("member", "user_2"): ("acct_1", ""),
            ("member", "user_9"): ("acct_9", ""),
        }.get((kind, ref))


@pytest.mark.parametrize(
    ("real", "sim", "book"), [(2, 3, "real"), (0, 3, "sim"), (2, 0, "real"), (0, 0, "real")]
)
def test_real_money_is_meant_unless_only_play_money_was_spent(real: int, sim: int, book: str) -> None:
    used = usage(LOCAL, FakeReports(real, sim), UsageOrder())
    assert used.book == book
    assert used.total == UsageLine(
        name="total",
        calls=len(used.rows),
        input_tokens=3 * len(used.rows),
        cost_nano_usd=5 * len(used.rows),
    )


def test_a_book_that_is_asked_for_is_the_one() -> None:
    rows = list(calls(LOCAL, FakeReports(2, 3), UsageOrder(book=Book.SIM)))
    assert [row.book for row in rows] == ["sim"] * 3


@pytest.mark.parametrize(
    ("order", "param"), [(UsageOrder(tz="X"), "tz"), (UsageOrder(since=5, until=5), "until")]
)
def test_an_order_that_makes_no_sense_names_its_member(order: UsageOrder, param: str) -> None:
    with pytest.raises(CallerError) as caught:
        usage(LOCAL, FakeReports(1, 1), order)
    assert caught.value.param == param


VIEWER = Actor("user_1", "acct_1", "user_1", ROLES["viewer"])
IN_PROJECT = Actor(
    "user_1",
    "acct_1",
    "user_1",
    ROLES["developer"],
    {"proj_1": PROJECT_ROLES["member"], "proj_3": frozenset()},
)


@pytest.mark.parametrize("actor", [Actor("guest"), Actor("user_1", "acct_1", "user_1", ROLES["developer"])])
def test_who_may_not_see_usage_is_told_so(actor: Actor) -> None:
    for see in (usage, calls):
        with pytest.raises(PermissionRefused):
            see(actor, FakeReports(1, 1), UsageOrder())


def test_whoever_owns_the_files_sees_everything() -> None:
    reports = FakeReports(1, 1)
    wanted = UsageOrder(accounts=("acct_9",), keys=("key_9",))
    usage(LOCAL, reports, wanted)
    assert reports.asked == msgspec.structs.replace(wanted, book=Book.REAL)


def test_a_viewer_sees_its_account_and_a_member_its_projects() -> None:
    reports = FakeReports(1, 1)
    usage(VIEWER, reports, UsageOrder(by="project"))
    assert (reports.asked.accounts, reports.asked.projects) == (("acct_1",), ())
    usage(IN_PROJECT, reports, UsageOrder(by="project"))
    assert (reports.asked.accounts, reports.asked.projects) == (("acct_1",), ("proj_1",))
    usage(IN_PROJECT, reports, UsageOrder(projects=("proj_1",), keys=("key_1",), members=("user_1",)))
    assert (reports.asked.projects, reports.asked.keys) == (("proj_1",), ("key_1",))


@pytest.mark.parametrize("actor", [VIEWER, IN_PROJECT])
@pytest.mark.parametrize("kind", ["account", "project", "key", "member"])
def test_the_foreign_and_the_absent_are_the_same(actor: Actor, kind: str) -> None:
    said = set()
    for ref in (
        {"account": "acct_", "project": "proj_", "key": "key_", "member": "user_"}[kind] + "9",
        "none",
    ):
        order = msgspec.structs.replace(UsageOrder(), **{f"{kind}s": (ref,)})
        with pytest.raises(NotFound) as caught:
            usage(actor, FakeReports(1, 1), order)
        said.add(caught.value.message.replace(ref, "X"))
    assert len(said) == 1


@pytest.mark.parametrize(
    "wanted", [{"projects": ("proj_2",)}, {"keys": ("key_2",)}, {"members": ("user_2",)}]
)
def test_what_is_outside_of_a_members_projects_is_absent(wanted: dict[str, tuple[str, ...]]) -> None:
    order = msgspec.structs.replace(UsageOrder(), **wanted)
    with pytest.raises(NotFound):
        usage(IN_PROJECT, FakeReports(1, 1), order)
    usage(VIEWER, FakeReports(1, 1), order)
