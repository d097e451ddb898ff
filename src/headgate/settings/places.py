"""Where in a settings file something stands: so that who wrote it finds what is wrong with it.

A place is the keys on the way to a setting, such as `("server", "port")`; a row of an array is told by its
number, or by its `name`. Lines are found by a look at the text, since `tomllib` does not tell them.
"""

from __future__ import annotations

import re
import tomllib
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import msgspec
import msgspec.inspect

from headgate.settings.upstreams import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

Place: TypeAlias = tuple[str | int, ...]
T = TypeVar("T")

_KEY: Final = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*')"""
_DOTTED: Final = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
_HEADER: Final = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_DOTTED})[ \t]*\]")
_SETTING: Final = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=")
_PART: Final = re.compile(_KEY)
_TOKEN: Final = re.compile(r"""\"{3}|'{3}|"(?:\\.|[^"\\])*"|'[^']*'|#.*|[\[\]{}]""")
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_AT: Final = re.compile(r" - at `(?:key in )?\$([^`]*)`$")
_UNKNOWN: Final = re.compile(r"unknown field `([^`]*)`")
_ROWS: Final = (msgspec.inspect.ListType, msgspec.inspect.VarTupleType)
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"")


@contextmanager
def placed(*place: str | int) -> Iterator[None]:
    """Say of errors that are raised within where their setting stands, unless they say it themselves."""
    try:
        yield
    except ConfigError as fault:
        fault.place = fault.place or place
        raise


def named_in(section: str, names: Iterable[str], fault: Exception) -> Place:
    """Return the place of the row of a section that an error names; empty where it names none."""
    return next(((section, name) for name in names if repr(name) in str(fault)), ())


class Lines:
    """The lines on which tables and keys of a TOML text begin. The text is valid."""

    def __init__(self, text: str) -> None:
        self._found: dict[Place, int] = {}
        self._rows: dict[Place, int] = {}  # of each array of tables, how many so far
        self._table: Place = ()
        self._until = ""  # what ends a text of several lines that has begun
        self._depth = 0  # of brackets that are open
        for number, line in enumerate(text.split("\n"), 1):
            self._read(line, number)

    def find(self, place: Place) -> int:
        """Return the line of a place, or of what it is in; 0: that is not there either."""
        return next((line for end in range(len(place), 0, -1) if (line := self._found.get(place[:end]))), 0)

    def _read(self, line: str, number: int) -> None:
        start = 0
        if not (self._until or self._depth):
            if header := _HEADER.match(line):
                self._begin(header[1], _parts(header[2]), number)
                return
            if setting := _SETTING.match(line):
                start = setting.end()
                place = self._table
                for part in _parts(setting[1]):
                    place = (*place, part)
                    self._found.setdefault(place, number)
        self._skip(line, start)

    def _begin(self, bracket: str, parts: list[str], number: int) -> None:
        place: Place = ()
        for part in parts[:-1]:
            place = (*place, part)
            if place in self._rows:
                place = (*place, self._rows[place] - 1)
            self._found.setdefault(place, number)
        place = (*place, parts[-1])
        self._found.setdefault(place, number)
        if bracket == "[[":
            row = self._rows.get(place, 0)
            self._rows[place] = row + 1
            place = (*place, row)
            self._found[place] = number
        self._table = place

    def _skip(self, line: str, start: int) -> None:
        """Go over a value, which may end on a later line."""
        while True:
            if self._until:
                end = line.find(self._until, start)
                if end < 0:
                    return
                start, self._until = end + 3, ""
            token = _TOKEN.search(line, start)
            if token is None:
                return
            start = token.end()
            if len(token[0]) == 3 and token[0] in {'"""', "'''"}:
                self._until = token[0]
            elif token[0] in "[]{}":
                self._depth += 1 if token[0] in "[{" else -1


class Source:
    """A settings file: what it says, and where."""

    def __init__(self, path: str, content: Mapping[str, Any], text: str) -> None:
        self.path = path
        self._content = content
        self._text = text

    @property
    def tables(self) -> frozenset[str]:
        """Return the names at its top."""
        return frozenset(self._content)

    def located(self, fault: ConfigError, flags: Collection[Place]) -> ConfigError:
        """Return an error that names the file and the line, if the setting stands there.

        Args:
            fault: of a setting that has a place; its message names the key.
            flags: places whose values come from elsewhere.
        """
        place = self._exact(fault.place, str(fault))
        line = 0 if not place or place in flags else Lines(self._text).find(place)
        return ConfigError(f"{self.path}, line {line}: {fault}") if line else fault

    def _exact(self, place: Place, said: str) -> Place:
        """Return the place of the key that a message names within a place; empty: it is not in the file."""
        found: list[str | int] = []
        table: Any = self._content
        for step in place:
            key = _row_of(table, step) if isinstance(table, list) else step
            if key is None or (isinstance(table, dict) and key not in table):
                return ()
            found.append(key)
            table = table[key]
        said = _QUOTED.sub(lambda quoted: " " * len(quoted[0]), said)
        while isinstance(table, dict):
            start, key = _named(table, said)
            if not key:
                break
            found.append(key)
            said, table = said[start:], table[key]
        return tuple(found)


def _row_of(rows: list[Any], step: str | int) -> int | None:
    if isinstance(step, int):
        return step if step < len(rows) else None
    named = (at for at, row in enumerate(rows) if isinstance(row, dict) and row.get("name") == step)
    return next(named, None)


def _named(table: Mapping[str, Any], said: str) -> tuple[int, str]:
    """Return the key that a message names first, or one whose rows have it, and where; "" for none."""
    own = [(match.end(), key) for key in table if (match := _word(key, said))]
    rows = {
        key: {name for row in value if isinstance(row, dict) for name in row}
        for key, value in table.items()
        if isinstance(value, list)
    }
    within = [(len(said), key) for key, names in rows.items() if any(_word(name, said) for name in names)]
    return min(own or within, default=(0, ""))


def _word(key: str, said: str) -> re.Match[str] | None:
    return re.search(rf"(?<![\w-]){re.escape(key)}(?![\w-])", said)


def _parts(dotted: str) -> list[str]:
    return [next(iter(tomllib.loads(f"{part} = 0"))) for part in _PART.findall(dotted)]


def read_source(path: str, kind: type[T]) -> tuple[T, Source]:
    """Return the settings of a file, and where they stand.

    Raises:
        ConfigError: it cannot be read, is no TOML, or has what no setting is; it names the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as fault:
        raise ConfigError(f"Cannot read the configuration {path!r}: {fault.strerror}.") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise ConfigError(f"{path}: not valid TOML: {fault}.") from fault
    try:
        return msgspec.convert(content, kind), Source(path, content, text)
    except msgspec.ValidationError as fault:
        line = Lines(text).find(_place_in(str(fault)))
        where = f"{path}, line {line}" if line else path
        said = f"{fault}.{_near(kind, str(fault))} See docs/settings.md for every setting."
        raise ConfigError(f"{where}: {said}") from fault


def _near(kind: Any, said: str) -> str:
    """Return which setting may be meant by one that a validation does not know, or which values there are."""
    if said.startswith("Invalid enum value"):
        return _choices(kind, _place_in(said))
    if _UNKNOWN.search(said) is None:
        return ""
    *place, unknown = _place_in(said)
    names = [field.encode_name for field in _fields_at(msgspec.inspect.type_info(kind), place)]
    near = get_close_matches(str(unknown), names, n=1)
    return f" Did you mean `{near[0]}`?" if near else ""


def _choices(kind: Any, place: Place) -> str:
    """Return what a setting of a few values may be; a place within it is of a row of them."""
    setting = place[:-1] if place and isinstance(place[-1], int) else place
    fields = _fields_at(msgspec.inspect.type_info(kind), setting[:-1])
    values = [value for field in fields if field.encode_name in setting[-1:] for value in _values(field.type)]
    return f" It may be {', '.join(values)}." if values else ""


def _values(kind: msgspec.inspect.Type) -> Iterator[str]:
    for each in _plain(kind):
        if isinstance(each, msgspec.inspect.LiteralType):
            yield from (f"`{value}`" for value in each.values)
        elif isinstance(each, msgspec.inspect.IntType):
            yield "a whole number"
        elif isinstance(each, _ROWS):
            yield from _values(each.item_type)


def _fields_at(kind: msgspec.inspect.Type, place: Iterable[str | int]) -> list[msgspec.inspect.Field]:
    """Return the settings of the table at a place; none where that is no table of fixed settings."""
    for step in place:
        if isinstance(step, int):
            kinds = [each.item_type for each in _plain(kind) if isinstance(each, _ROWS)]
        else:
            kinds = [field.type for field in _fields(kind) if field.encode_name == step]
        if not kinds:
            return []
        kind = kinds[0]
    return _fields(kind)


def _fields(kind: msgspec.inspect.Type) -> list[msgspec.inspect.Field]:
    structs = [each for each in _plain(kind) if isinstance(each, msgspec.inspect.StructType)]
    return [field for each in structs for field in each.fields]


def _plain(kind: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, ...]:
    return kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)


def _place_in(said: str) -> Place:
    """Return the place that a validation names."""
    at = _AT.search(said)
    steps = _STEP.findall(at[1].partition("[...]")[0]) if at is not None else []
    place = tuple(name or int(number) for name, number in steps)
    unknown = _UNKNOWN.search(said)
    return (*place, unknown[1]) if unknown is not None else place
