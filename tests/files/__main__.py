"""Print what a long file costs a worker: memory, its own work, and for how long at most it holds up others.

    python -m tests.files [MB]

The worker runs in this process and curl beside it. What the loop's thread works between two turns is told by the
processor time of that thread, so that other programs of this machine do not count.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.worker import Worker, worker
from tests.upstream import ScriptedUpstream

_TICK_S = 0.001


class Turns:
    """How long the loop's thread worked between two of its turns, at most."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._worked = time.thread_time()
        self._loop = asyncio.get_running_loop()
        self._tick()

    def _tick(self) -> None:
        now = time.thread_time()
        self.longest_s = max(self.longest_s, now - self._worked)
        self._worked = now
        self._timer = self._loop.call_later(_TICK_S, self._tick)

    def stop(self) -> float:
        """Return the longest, in milliseconds."""
        self._timer.cancel()
        return self.longest_s * 1000


def _memory(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
    assert found is not None
    return int(found[1])


async def _run(what: str, *command: str) -> bytes:
    Path("/proc/self/clear_refs").write_text("5", "utf-8")  # the peak of memory begins anew
    before, turns, began, cpu = _memory("VmRSS"), Turns(), time.monotonic(), time.process_time()
    curl = await asyncio.create_subprocess_exec("curl", "-sS", *command, stdout=asyncio.subprocess.PIPE)
    said, _ = await curl.communicate()
    print(
        f"{what}: {time.monotonic() - began:.2f} s, processor {time.process_time() - cpu:.2f} s, memory "
        f"{before / 1024:.0f} MB + {(_memory('VmHWM') - before) / 1024:.1f} MB, longest turn {turns.stop():.1f} ms"
    )
    return said


async def _measure(gateway: Worker, megabytes: int, folder: Path) -> None:
    path = folder / "long.bin"
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))
    own = ("-H", f"Authorization: Bearer {gateway.key}")
    files = f"{gateway.base_url}/files"
    put = (*own, "-F", "purpose=user_data", "-F", f"file=@{path}", files)
    await _run("first", *own, files)
    said = await _run(f"up, {megabytes} MB", *put)
    found = re.search(rb"file-\w+", said)
    assert found is not None, said
    await _run(f"down, {megabytes} MB", *own, "-o", "/dev/null", f"{files}/{found[0].decode()}/content")


async def _main(megabytes: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = f"\n[files]\nfile_mb = {megabytes}\n"
        async with (
            ScriptedUpstream() as upstream,
            worker(folder, upstream.base_url, more=settings) as gateway,
        ):
            await _measure(gateway, megabytes, folder)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 512))
