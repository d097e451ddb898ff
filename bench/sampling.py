"""Where the gateway's time goes: py-spy from outside, when it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from load import Load
from session import HEADGATE

if TYPE_CHECKING:
    from session import Session

RATE = 400
LINE = re.compile(r":\d+\)$")
SHOWN = 25
HOW_TO = (
    "py-spy is not installed, so there is no profile. It is a tool for developers and no part of "
    "the environment: python -m pip install py-spy (Linux: as root, or with ptrace allowed)"
)


def profile(session: Session, target_file: Path, *, stream: bool) -> bool:
    """Sample the gateway under the JSON or the burst load; write stacks and print the summary."""
    spy = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if spy is None:
        print(HOW_TO)
        return False
    target = session.targets[HEADGATE]
    seconds = max(2, round(session.plan.seconds(10)))
    session.measure(HEADGATE, Load(session.plan.seconds(2), stream=stream))
    argv = [spy, "record", "--pid", str(target.server.pid), "--subprocesses", "--nonblocking"]
    argv += ["--duration", str(seconds), "--rate", str(RATE), "--format", "raw"]
    argv += ["--output", str(target_file)]
    spying = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    session.measure(HEADGATE, Load(seconds + 1.0, stream=stream))
    said, _ = spying.communicate(timeout=60)
    if spying.returncode or not target_file.exists():
        print(f"py-spy failed:\n{said}")
        return False
    for line in summary(target_file.read_text()):
        print(line)
    print(f"stacks: {target_file} (for a flame graph: speedscope or flamegraph.pl)")
    return True


def summary(stacks: str) -> list[str]:
    """Summarise collapsed stacks: the share of functions, own and with what they call."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    samples = 0
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        if not stack or not count.isdigit():
            continue
        frames = [LINE.sub(")", frame) for frame in stack.split(";")]
        samples += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    if not samples:
        return ["no samples"]
    lines = [f"{samples} samples", f"{'own %':>7}{'all %':>7}  function"]
    share = 100 / samples
    for frame, alone in own.most_common(SHOWN):
        lines.append(f"{alone * share:7.1f}{whole[frame] * share:7.1f}  {frame}")
    return lines
