"""Keys that have had their secret for too long: listed, flagged, counted and told of once."""

from contextlib import closing
from pathlib import Path

import pytest
from tests.ops.fakes import START, HandClock, join

from headgate.ops.actors import LOCAL
from headgate.ops.ages import age_of, list_old_keys
from headgate.ops.desk import Desk, PageOrder
from headgate.ops.keyrules import KeyOrder
from headgate.ops.keys import create_key, list_keys, revoke_key, rotate_key
from headgate.records import DAY_US
from headgate.stores.sql.ages import Ages, note_ages
from headgate.stores.sql.database import connect

ALL = PageOrder(limit=100)


def events(folder: Path) -> list[tuple[str, int]]:
    with closing(connect(folder)) as sql:
        rows = sql.execute("SELECT ref, json_extract(detail, '$.days') FROM events ORDER BY seq").fetchall()
    return [tuple(row) for row in rows]


def look(folder: Path, clock: HandClock) -> Ages:
    with closing(connect(folder)) as sql:
        return note_ages(sql, clock.now)


def test_a_key_grows_old_and_overdue_until_it_is_rotated(
    desk: Desk, clock: HandClock, tmp_path: Path
) -> None:
    made = create_key(LOCAL, desk, KeyOrder(name="a")).record
    create_key(LOCAL, desk, KeyOrder(name="short", expires_in_s=86_400))
    gone = create_key(LOCAL, desk, KeyOrder(name="gone")).record
    revoke_key(LOCAL, desk, gone.id)
    for days, age, ages, told in (
        (0, "", Ages(0, 0), []),
        (90, "old", Ages(1, 0), [(made.id, 90)]),
        (91, "old", Ages(1, 0), [(made.id, 90)]),
        (180, "overdue", Ages(1, 1), [(made.id, 90), (made.id, 180)]),
    ):
        clock.now = START + days * DAY_US
        assert age_of(made, clock.now) == age
        assert age_of(made, clock.now - 1) != age or days in {0, 91}
        assert [record.id for record in list_old_keys(LOCAL, desk, ALL).data] == [made.id] * bool(age)
        for _ in range(2):
            assert look(tmp_path, clock) == ages
        assert events(tmp_path) == told
    assert list_old_keys(LOCAL, desk, ALL, days=180).data == [made]
    rotated = rotate_key(LOCAL, desk, made.id).record
    assert age_of(rotated, clock.now) == ""
    assert list_old_keys(LOCAL, desk, ALL).data == []
    assert look(tmp_path, clock) == Ages(0, 0)
    clock.now += 90 * DAY_US
    assert look(tmp_path, clock) == Ages(1, 0)
    assert events(tmp_path)[2:] == [(made.id, 90)]  # once for each secret


@pytest.mark.parametrize(("role", "sees"), [("viewer", 1), ("developer", 0)])
def test_who_sees_a_key_sees_its_age(desk: Desk, clock: HandClock, role: str, sees: int) -> None:
    who = join(LOCAL, desk, role)
    create_key(LOCAL, desk, KeyOrder(name="a"))
    create_key(LOCAL, desk, KeyOrder(name="root", kind="admin"))
    clock.now += 100 * DAY_US
    assert len(list_old_keys(who, desk, ALL).data) == sees
    assert list_keys(who, desk, ALL, kind="admin").data == []
