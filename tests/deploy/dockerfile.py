"""A Dockerfile as its instructions, as far as ours needs them read."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/Dockerfile"


@dataclass
class Stage:
    """What stands between one FROM and the next."""

    image: str
    name: str
    arguments: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    steps: list[tuple[str, str]] = field(default_factory=list)  # RUN, COPY, WORKDIR, in their order
    last: dict[str, str] = field(default_factory=dict)  # USER, CMD, ...: the last one holds

    def words(self, name: str) -> list[str]:
        """Return an instruction in its exec form, as a list of words."""
        words = json.loads(self.last[name].removeprefix("CMD "))
        assert all(isinstance(word, str) for word in words)
        return words


def read(text: str) -> list[Stage]:
    """Return the stages of a Dockerfile."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    stages: list[Stage] = []
    defaults: dict[str, str] = {}
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, value = line.partition(" ")
        value = value.strip()
        if name == "FROM":
            image, _, alias = value.partition(" AS ")
            stages.append(Stage(image, alias))
        elif name == "ARG":
            key, _, default = value.partition("=")
            (stages[-1].arguments if stages else defaults)[key] = default.strip('"')
        elif name == "ENV":
            stages[-1].environment |= dict(word.split("=", 1) for word in shlex.split(value))
        elif name in {"RUN", "COPY", "WORKDIR"}:
            stages[-1].steps.append((name, value))
        else:
            options, _, rest = value.partition("CMD ")
            stages[-1].last[name] = "CMD " + rest if name == "HEALTHCHECK" else value
            if name == "HEALTHCHECK":
                stages[-1].last["HEALTHCHECK options"] = options
    return stages


def allowed(ignore: str) -> set[str]:
    """Return what a `.dockerignore` that begins by leaving out everything lets in."""
    lines = [line for line in ignore.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    return {line[1:] for line in lines if line.startswith("!")}
