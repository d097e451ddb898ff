from contextlib import closing
from pathlib import Path

from tests.cli.conftest import Run
from tests.stores.books import make

from headgate.identity.keys import mint_key
from headgate.stores.sql.bootstrap import prepare
from headgate.stores.sql.database import connect
from headgate.stores.sql.nodes import enlist, own_node


def a_node(shared: Path, place: Path) -> None:
    place.mkdir()
    own_node(place, "gateway-2")
    with closing(connect(shared)) as sql:
        enlist(sql, place, 1)
        sql.execute("INSERT INTO pots (kind, ref, period, book, since, until, amount, spent)"
                    " VALUES ('grant', 1, '', 0, 0, 9, 100, 0)")  # fmt: skip
        sql.execute("INSERT INTO slices VALUES (1, 'gateway-2/slot-0', 40, 0)")


def test_the_nodes_are_shown(run: Run, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    prepare(shared, 1, mint_key)
    a_node(shared, tmp_path / "other")
    for command in (("status",), ("db", "check")):
        done = run(*command, "--data", str(shared))
        assert done.exit_code == 0, done.output
        assert "Node gateway-2: not serving; Headgate " in done.stdout
        assert "$0.00000004 of budgets and credit in hand." in done.stdout


def test_a_lost_node_is_written_off_when_somebody_says_yes(run: Run, tmp_path: Path) -> None:
    shared = make(tmp_path / "shared")
    a_node(shared, tmp_path / "lost")
    command = ("ledger", "write-off", "gateway-2", "--data", str(shared))
    refused = run(*command, input="n\n")
    assert refused.exit_code == 1
    assert "Is its data folder really lost?" in refused.stderr
    done = run(*command, input="y\n")
    assert done.stdout == "gateway-2 is written off: 1 slice of budgets and grants that it had are spent.\n"
    again = run(*command, "--yes", "--json")
    assert again.exit_code == 3
    assert "knows no node 'gateway-2'; it knows: none" in again.stderr
    with closing(connect(shared)) as sql:
        assert sql.execute("SELECT slot, amount FROM slices").fetchall() == [("lost", 40)]
