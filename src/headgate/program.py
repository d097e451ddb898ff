"""What we print or show: commands to paste, of this program as its user started it, and addresses."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def invocation() -> str:
    """Return this program as the user started it, to be pasted into the same shell."""
    path = Path(sys.argv[0])
    if path.name == "__main__.py" and path.parent.name == "headgate":
        return shlex.join([_short(Path(sys.executable)), "-m", "headgate"])
    if path.stem != "headgate":  # another program that shows our help
        return "headgate"
    on_path = shutil.which(path.name)
    if on_path is not None and Path(on_path).resolve() == path.resolve():
        return path.name
    return shlex.quote(_short(path))


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def advise(command: str, data: Path | None = None) -> str:
    """Return a command of ours to paste, on this data folder."""
    folder = "" if data is None or data == Path("headgate-data") else f" --data {shlex.quote(str(data))}"
    return f"{invocation()} {command}{folder}"


def interpreter() -> str:
    """Return the Python that runs us, to be pasted into the same shell."""
    return shlex.quote(_short(Path(sys.executable)))


def without_password(url: str) -> str:
    """Return the address of a database, or of another service, as people may see it.

    Of one that may hold a password where none is looked for, only the scheme.
    """
    from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is None or "@" in parts.path + parts.query + parts.fragment:
        scheme, found, _ = url.partition("://")
        return f"{scheme}://..." if found and scheme.isalnum() else "..."
    login, _, host = parts.netloc.rpartition("@")
    user = login.partition(":")[0]
    where = f"{user}@{host}" if user else host
    query = [(name, value) for name, value in parse_qsl(parts.query) if "password" not in name]
    return urlunsplit((parts.scheme, where, parts.path, urlencode(query), "")) if url else ""
