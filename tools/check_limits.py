"""Check the limits that ruff does not know: sizes, where provider names occur, hosts of registries.

Run in a git checkout: `python tools/check_limits.py [folder]`. Prints one line per violation and exits 1 when
there is one. There is no list of waivers: a file that is too long needs a split, and the split a noun.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FILE_LINES = 500
FUNCTION_LINES = 60
CODE = {".py", ".sh", ".js", ".css", ".html", ".c"}
# Generated code, and code of others kept as it came.
NOT_OURS = ("src/headgate/stores/sql/migrations/versions/", "src/headgate/dashboard/vendor/")
# Functions of tests and examples read top to bottom; ruff bounds their statements all the same.
SHORT_FUNCTIONS = ("src/", "tools/", "bench/")

# A provider's name belongs to the registry and to its own file. Read here, written nowhere else.
REGISTRY = "src/headgate/providers/hosts.toml"
WIRES = "src/headgate/providers/"  # here a file or a folder may be a provider's own; the registry knows all
# A secret manager may be of a cloud that has models, too.
NAMES_ALLOWED = (f"{WIRES}registry.py", "src/headgate/data/", "src/headgate/vaults/")
# Names that are not only a provider's: the wire's own, and an English word, which counts as a whole string.
WIRE = {"openai"}
WORDS = {"together"}

# In two pieces, so that this file does not name them either.
HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted.org"),
        ("registry", "npmjs.org"),
        ("deb", "debian.org"),
    )
)


WAIVER = re.compile(r"#\s*(?:ruff:\s*)?noqa\b", re.IGNORECASE)


def tracked(root: Path) -> list[str]:
    """Return the paths of the checkout, committed or about to be, ignored ones apart."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return sorted({path for path in listing.split("\0") if path and (root / path).is_file()})


def too_long(path: str, text: str) -> Iterator[str]:
    """Yield the file itself when it is over its limit, then each function that is over its own."""
    lines = text.count("\n")
    if lines > FILE_LINES:
        yield f"{path}: {lines} lines, the limit is {FILE_LINES}"
    if not path.endswith(".py") or not path.startswith(SHORT_FUNCTIONS):
        return
    for node in ast.walk(ast.parse(text, path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {size} lines, the limit is {FUNCTION_LINES}"


def provider_names(root: Path) -> list[str]:
    """Return the names of the registry's rows, those that are the wire's own apart."""
    registry = root / REGISTRY
    if not registry.exists():
        return []
    return sorted(set(tomllib.loads(registry.read_text("utf-8"))) - WIRE)


def _words(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the names and strings of code with their lines.

    Sentences (a string with white space), comments and docstrings are prose: they may give an example.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if not re.search(r"\s", text):
                yield node.lineno, text
            case (
                ast.Name(id=text)
                | ast.Attribute(attr=text)
                | ast.FunctionDef(name=text)
                | ast.ClassDef(name=text)
            ):
                yield node.lineno, text.replace("_", " ")
            case ast.arg(arg=text):
                yield node.lineno, text.replace("_", " ")


def misplaced_names(path: str, text: str, names: Iterable[str]) -> Iterator[str]:
    """Yield each place in the package where code knows a provider by name and should not."""
    if not path.startswith("src/headgate/") or not path.endswith(".py") or path.startswith(NAMES_ALLOWED):
        return
    if path.startswith(WIRES) and path.removeprefix(WIRES).partition("/")[0].removesuffix(".py") in names:
        return
    patterns = {
        name: re.compile(
            rf"^{name}$" if name in WORDS else rf"(?<![a-z0-9]){name}(?![a-z0-9])", re.IGNORECASE
        )
        for name in names
    }
    for line, word in _words(ast.parse(text, path)):
        for name, pattern in patterns.items():
            if pattern.search(word):
                yield f"{path}:{line}: names the provider {name!r}; it belongs in {REGISTRY}"


def named_hosts(path: str, text: str) -> Iterator[str]:
    """Yield each line that names a package registry's host: a mirror's users would leave the mirror."""
    for number, line in enumerate(text.splitlines(), 1):
        for host in HOSTS:
            if host in line:
                yield f"{path}:{number}: names the registry host {host}"


def waivers(path: str, text: str) -> Iterator[str]:
    """Yield each line of Python that waives a rule of the linter."""
    for number, line in enumerate(text.splitlines(), 1):
        if path.endswith(".py") and WAIVER.search(line):
            yield f"{path}:{number}: waives a rule of the linter"


def violations(root: Path) -> Iterator[str]:
    """Yield every violation in a checkout, one line each."""
    names = provider_names(root)
    for path in tracked(root):
        try:
            text = (root / path).read_text("utf-8")
        except UnicodeDecodeError:
            continue  # binary data: no lines to count and none to read
        yield from named_hosts(path, text)
        if Path(path).suffix not in CODE or path.startswith(NOT_OURS):
            continue
        yield from too_long(path, text)
        yield from waivers(path, text)
        yield from misplaced_names(path, text, names)


def main() -> int:
    """Print the violations of a checkout; return the exit code."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    found = list(violations(root))
    for line in found:
        print(line)
    print(f"limits: {len(found)} violations" if found else "limits: kept")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
