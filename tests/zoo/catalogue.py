"""The bugs and their mutants, as they stand in the tables."""

from __future__ import annotations

import string
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

HERE = Path(__file__).parent
TABLES = ("peers.toml", "own.toml")
SOURCE = HERE.parents[1] / "src"


class Misfit(Exception):
    """A mutant whose text does not occur exactly once in its file."""


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text of a file and what stands in its place."""

    text: str
    instead: str


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way to bring a bug back."""

    file: str  # below src/headgate
    text: str  # exactly once in the file
    instead: str
    also: tuple[Change, ...] = ()  # in the same file, where one place is not enough
    tests: tuple[str, ...]  # pytest's ids of those that must catch it
    name: str = ""  # of the bug, and a letter where it has several mutants
    failure: str = ""  # of the bug

    def mutate(self, source: Path) -> None:
        """Put the bug into a copy of the source.

        Raises:
            Misfit: the code has changed, or the place is not the only one.
        """
        path = source / "headgate" / self.file
        path.write_text(self.applied(path.read_text() if path.is_file() else ""))

    def applied(self, code: str) -> str:
        """Return a file's text with the bug in it.

        Raises:
            Misfit: see `mutate`.
        """
        for change in (self, *self.also):
            count = code.count(change.text)
            if count != 1:
                raise Misfit(
                    f"mutant {self.name}: its text occurs {count} times in src/headgate/{self.file}, not once:\n"
                    f"{change.text.strip()}\nThe code has changed. Bring the mutant in tests/zoo in line with it, "
                    f"so that it is the same bug again: {self.failure}"
                )
            code = code.replace(change.text, change.instead)
        return code


class Bug(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A failure in one sentence, and the mutants that bring it back."""

    name: str  # a number of the list of the peers' bugs; a word for one of ours
    failure: str
    not_yet: str = ""  # why it does not apply to what there is
    mutants: tuple[Mutant, ...] = ()


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    bugs: list[Bug]


def bugs() -> list[Bug]:
    """Return all bugs; their mutants have names."""
    found = [bug for table in TABLES for bug in _read(HERE / table)]
    return [msgspec.structs.replace(bug, mutants=tuple(_named(bug))) for bug in found]


def mutants(wanted: Sequence[str] = ()) -> list[Mutant]:
    """Return the mutants of all bugs, or of those that are wanted by a mutant's or a bug's name.

    Raises:
        ValueError: there is no such one.
    """
    found = [(bug.name, mutant) for bug in bugs() for mutant in bug.mutants]
    unknown = set(wanted) - {name for bug, mutant in found for name in (bug, mutant.name)}
    if unknown:
        raise ValueError(f"no mutant is called {', '.join(sorted(unknown))}")
    return [mutant for bug, mutant in found if not wanted or bug in wanted or mutant.name in wanted]


def _read(path: Path) -> list[Bug]:
    return msgspec.convert(tomllib.loads(path.read_text()), _Table).bugs


def _named(bug: Bug) -> Iterator[Mutant]:
    letters = string.ascii_lowercase if len(bug.mutants) > 1 else [""]
    between = "" if bug.name[-1].isdigit() else "-"
    for letter, mutant in zip(letters, bug.mutants, strict=False):
        name = f"{bug.name}{between}{letter}" if letter else bug.name
        yield msgspec.structs.replace(mutant, name=name, failure=bug.failure)
